"""Guidance by contrast: away from what the model says when it knows less.

With `m` the full prediction and `m_k` the one without the label (k = label) or without the semantic stream
(k = semantics), it is `m + sum_k (w_k - 1) (m - m_k)`. One term with the label is classifier-free guidance (arXiv
2207.12598), one with the semantics is ReDi's representation guidance (arXiv 2504.16064, section 3.5): both papers write
`m_k + w_k (m - m_k)`, which is the same. The sum of both is our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..predictor import ConditionalPredictor, Instants, Predictor
from ..streams import IMAGE, SEMANTIC, Streams, stream_of, unseen_of
from .settings import CFGSettings, Contrast, JointGuidanceSettings, RepresentationSettings

ROUNDING = 1e-9

Blind = Callable[[Streams, Tensor], tuple[Streams, Tensor]]
"""What a branch is shown instead of the streams and labels."""


@dataclass(frozen=True)
class Term:
    """One contrast: its settings, and what its branch does not see."""

    settings: Contrast
    blind: Blind

    def acts(self, instants: Instants) -> bool:
        """Return whether the term has a part at these times."""
        return self.settings.scale != 1 and _inside(instants[IMAGE], *self.settings.interval)

    def guided(self, name: str, full: Tensor, without: Tensor) -> Tensor:
        """Return what the term adds to a stream's full prediction `(B, C, H, W)`."""
        difference = full - without
        if name == IMAGE and self.settings.channels is not None:
            difference[:, self.settings.channels :] = 0
        return (self.settings.scale - 1) * difference


class ContrastGuidance:
    """Sum of contrast terms on the streams that each of them guides; the other streams keep the full prediction.

    All branches run as one batch. Outside its interval, and at scale 1, a branch does not run.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = tuple(terms)

    def __call__(self, model: ConditionalPredictor, labels: Tensor) -> Predictor:
        """Return the guided prediction for labels `(B,)`."""

        def predict(streams: Streams, instants: Instants) -> Streams:
            active = [term for term in self.terms if term.acts(instants)]
            if not active:
                return model(streams, instants, labels)
            shown = [(streams, labels), *(term.blind(streams, labels) for term in active)]
            predicted = model(_one_batch([each for each, _ in shown]), instants, torch.cat([each for _, each in shown]))
            branches = {name: values.chunk(len(shown)) for name, values in predicted.items()}
            # What is no stream, a learned variance, is not guided (DiT).
            return {
                name: _combine(name, each, active) if name in streams else each[0] for name, each in branches.items()
            }

        return predict


def _one_batch(shown: Sequence[Streams]) -> Streams:
    keys = dict.fromkeys(key for streams in shown for key in streams)
    return {key: torch.cat([streams.get(key, streams[stream_of(key)]) for streams in shown]) for key in keys}


def _inside(time: float, start: float, end: float) -> bool:
    """Return whether guidance is on: JiT's interval is open, but has no bound at 0.

    It has none at 1 either: JiT's sampler never asks there, `dopri5` does, and a jump of the velocity at its last stage
    would look like an error of the step. A time that misses a bound by rounding is on it.
    """
    return (start == 0 or time > start + ROUNDING) and (end == 1 or time < end - ROUNDING)


def _combine(name: str, branches: Sequence[Tensor], terms: Sequence[Term]) -> Tensor:
    full, *blind = branches
    guided = full
    for term, without in zip(terms, blind, strict=True):
        if term.settings.guides(name):
            guided = guided + term.guided(name, full, without)
    return guided


def without_label(null_label: int) -> Blind:
    """Return what hides the labels."""
    return lambda streams, labels: (streams, torch.full_like(labels, null_label))


def without_semantics(streams: Streams, labels: Tensor) -> tuple[Streams, Tensor]:
    """Hide the semantic stream: the noisy stream itself becomes zero."""
    hidden = streams[SEMANTIC]
    return {**streams, SEMANTIC: torch.zeros_like(hidden), unseen_of(SEMANTIC): hidden}, labels


class ClassifierFreeGuidance(ContrastGuidance):
    """Away from the prediction without a label; unlabelled images have nothing to be guided by."""

    def __init__(self, settings: CFGSettings, null_label: int) -> None:
        super().__init__([Term(settings, without_label(null_label))] if null_label else [])


class RepresentationGuidance(ContrastGuidance):
    """Away from the prediction without semantics."""

    def __init__(self, settings: RepresentationSettings, null_label: int) -> None:
        del null_label
        super().__init__([Term(settings, without_semantics)])


class JointGuidance(ContrastGuidance):
    """Away from both, each by its own scale."""

    def __init__(self, settings: JointGuidanceSettings, null_label: int) -> None:
        label = [Term(settings.label, without_label(null_label))] if null_label else []
        super().__init__([*label, Term(settings.semantics, without_semantics)])
