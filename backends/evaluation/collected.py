"""What metrics are computed from: additive statistics of values that networks take of images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...components.extractors.extractor import Extractor
from ...components.metrics.metric import Metric, Statistics
from ...components.rows import equal_pieces

FEATURES = "features"
LOGITS = "logits"
SEMANTIC_CELLS = "semantic"

Values = Mapping[str, Tensor]
"""Vectors of a batch of images `(B, D)` by what they are: `FEATURES`, `LOGITS`, `SEMANTIC_CELLS`."""

EXTRACTED_AT_ONCE = 32
"""Images that an extractor takes at a time: its first layers hold a hundred times what an image does."""


def extracted(extractor: Extractor, images: Tensor, device: torch.device) -> dict[str, Tensor]:
    """Return features and, where there are some, logits of images `(N, 3, H, W)` uint8: the same bits whatever N is."""
    found = [extractor(piece) for piece in equal_pieces(images.to(device), EXTRACTED_AT_ONCE)]
    values = {FEATURES: torch.cat([each.features for each in found])[: len(images)]}
    logits = [each.logits for each in found if each.logits is not None]
    return values | ({LOGITS: torch.cat(logits)[: len(images)]} if logits else {})


@dataclass(frozen=True)
class Probe:
    """A metric on one kind of values.

    Attributes:
        prefix: what its scores' names begin with.
        reads: the kind of values.
        compares: whether it needs values of a reference.
    """

    prefix: str
    reads: str
    metric: Metric
    compares: bool = True


class Collected:
    """Statistics of a set of images, for some probes. Probes that ask for the same ones share them."""

    def __init__(self, probes: Iterable[Probe]) -> None:
        self.kept: dict[tuple[str, type[Statistics]], Statistics] = {}
        for probe in probes:
            empty = probe.metric.statistics()
            self.kept.setdefault((probe.reads, type(empty)), empty)

    def update(self, values: Values) -> None:
        """Add the values of a batch, of whatever kinds they are."""
        for (reads, _), statistics in self.kept.items():
            if reads in values:
                statistics.update(values[reads])

    def of(self, probe: Probe) -> Statistics:
        """Return what a probe is computed from."""
        return self.kept[probe.reads, type(probe.metric.statistics())]

    def joined(self, other: Collected) -> Collected:
        """Return these statistics and others, of other kinds of values; nothing is copied."""
        both = Collected(())
        both.kept = {**self.kept, **other.kept}
        return both

    def replace(self, reads: str, statistics: Statistics) -> None:
        """Put statistics that are known already in the place of those that are collected."""
        self.kept[reads, type(statistics)] = statistics


def compute(probes: Iterable[Probe], generated: Collected, reference: Collected) -> dict[str, float]:
    """Return every score by name.

    Raises:
        ValueError: too few images, or a value that is not finite; names the metric.
    """
    scores: dict[str, float] = {}
    for probe in probes:
        against = reference.of(probe) if probe.compares else None
        found = probe.metric.compute(generated.of(probe), against)
        scores |= {f"{probe.prefix}{name}": value for name, value in found.items()}
    return scores
