"""Vectors kept as they are, for statistics that no sum can hold."""

from __future__ import annotations

import torch
from torch import Tensor


class FeatureSet:
    """Every vector of a set, in the order in which they came.

    Additive like `Moments`: the vectors of two halves are those of the whole. Nothing is copied but once, when batches
    are first read as one tensor; a set that several metrics read, and the sum of two sets, share what is there. Vectors
    stay on a CUDA device that they are on, and are held in memory otherwise.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._batches: list[Tensor] = []

    def update(self, vectors: Tensor) -> None:
        """Add vectors `(N, D)`; they must not be written to afterwards."""
        kept = vectors.detach()
        self._batches.append(kept if kept.is_cuda else kept.cpu())

    @property
    def count(self) -> int:
        """Number of vectors."""
        return sum(map(len, self._batches))

    @property
    def values(self) -> Tensor:
        """All vectors `(N, D)`, in the precision in which they came."""
        if not self._batches:
            return torch.zeros(0, self.width)
        if len(self._batches) > 1:
            self._batches = [torch.cat(self._batches)]
        return self._batches[0]

    def __add__(self, other: FeatureSet) -> FeatureSet:
        both = FeatureSet(self.width)
        both._batches = [*self._batches, *other._batches]
        return both
