"""Classifier-free guidance (arXiv 2207.12598), with an interval (arXiv 2404.07724)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..streams import IMAGE, Streams
from ..velocity import ConditionalVelocity, Instants, Velocity
from .settings import CFGSettings


class ClassifierFreeGuidance:
    """`v = v_null + scale (v_label - v_null)` on the chosen streams; the others keep the conditional velocity.

    Both branches run as one batch. Outside the interval, and at scale 1, only the conditional one runs.
    """

    def __init__(self, settings: CFGSettings, null_label: int) -> None:
        self.settings, self.null_label = settings, null_label

    def __call__(self, model: ConditionalVelocity, labels: Tensor) -> Velocity:
        """Return the guided velocity for labels `(B,)`; unconditional samples have nothing to be guided by."""
        start, end = self.settings.interval
        both = torch.cat([labels, torch.full_like(labels, self.null_label)])
        no_effect = self.settings.scale == 1 or self.null_label == 0

        def velocity(streams: Streams, instants: Instants) -> Streams:
            if no_effect or not start <= instants[IMAGE] <= end:
                return model(streams, instants, labels)
            doubled = model({name: torch.cat([x, x]) for name, x in streams.items()}, instants, both)
            return {name: self._combine(name, pair) for name, pair in doubled.items()}

        return velocity

    def _combine(self, name: str, pair: Tensor) -> Tensor:
        conditional, unconditional = pair.chunk(2)
        if name not in self.settings.streams:
            return conditional
        return torch.lerp(unconditional, conditional, self.settings.scale)
