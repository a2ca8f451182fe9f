"""Exact moments of vectors in one streaming pass."""

from __future__ import annotations

import torch
from torch import Tensor

from .merging import Merge


class Moments:
    """Count, sum and sum of outer products of vectors, float64.

    The sums are additive: the result depends neither on the order nor on the size of the batches, and moments of
    several processes can be added. They are kept where the vectors are, if that is a CUDA device: products in double
    precision take the CPU longer than an encoder takes for its features.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.sum = torch.zeros(width, dtype=torch.float64)
        self.outer = torch.zeros(width, width, dtype=torch.float64)

    @classmethod
    def of(cls, mean: Tensor, covariance: Tensor, count: int) -> Moments:
        """Return moments that are known: mean `(D,)` and unbiased covariance `(D, D)` of so many vectors."""
        made = cls(len(mean))
        made.count = count
        made.sum = mean.double() * count
        made.outer = covariance.double() * (count - 1) + count * torch.outer(mean.double(), mean.double())
        return made

    def update(self, vectors: Tensor) -> None:
        """Add vectors `(N, D)`."""
        if vectors.is_cuda and not self.sum.is_cuda:
            self.sum, self.outer = self.sum.to(vectors.device), self.outer.to(vectors.device)
        exact = vectors.detach().to(self.sum.device).double()
        self.count += len(exact)
        self.sum += exact.sum(0)
        self.outer += exact.T @ exact

    def merged(self, merge: Merge) -> Moments:
        """Return the moments of all processes, on the CPU."""
        whole = Moments(len(self.sum))
        whole.count = int(merge.sum(torch.tensor(self.count)))
        whole.sum, whole.outer = merge.sum(self.sum).cpu(), merge.sum(self.outer).cpu()
        return whole

    def __add__(self, other: Moments) -> Moments:
        both = Moments(len(self.sum))
        both.count = self.count + other.count
        both.sum = self.sum + other.sum
        both.outer = self.outer + other.outer
        return both

    @property
    def mean(self) -> Tensor:
        """Mean `(D,)`."""
        return self.sum / self.count

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance `(D, D)`."""
        return (self.outer - self.count * torch.outer(self.mean, self.mean)) / (self.count - 1)
