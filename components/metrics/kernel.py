"""Kernel distance: squared maximum mean discrepancy of a polynomial kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..feature_set import FeatureSet
from .checks import checked_values, finite
from .settings import KernelSettings

Kernel = Callable[[Tensor, Tensor], Tensor]
"""Vectors `(N, D)` and `(M, D)` in float64 to `(N, M)`."""

AT_ONCE = 1024
"""Vectors of either set that are compared at once."""


class KernelDistance:
    """KID (arXiv 1801.01401, section 4) on any features, in float64.

    Drawn as torch-fidelity draws: numpy's `RandomState`, for every estimate a subset of the generated images and then
    one of the reference. On features in float64 the numbers are torch-fidelity's; what it extracts itself is float32,
    and so are its kernels then.
    """

    def __init__(self, settings: KernelSettings, width: int) -> None:
        self.settings, self.width = settings, width

    def statistics(self) -> FeatureSet:
        """Return empty statistics."""
        return FeatureSet(self.width)

    def compute(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        """Return the distance, `kernel`, and the standard deviation of the estimates that it is the mean of.

        The latter, `kernel_std`, is left out where there is one exact estimate. A distance may be less than nothing.

        Raises:
            ValueError: fewer than two images, no reference, or features that are not finite.
        """
        first, second = checked_values(self.settings, self.width, generated, reference)
        if self.settings.subset_size == "all":
            return finite(self.settings, {"kernel": squared_discrepancy(first, second, self.kernel)})
        # torch-fidelity refuses sets smaller than a subset; from there on the numbers are its.
        size = min(self.settings.subset_size, len(first), len(second))
        estimates = [
            squared_discrepancy(first[chosen], second[beside], self.kernel)
            for chosen, beside in self._subsets(len(first), len(second), size)
        ]
        scores = {"kernel": float(np.mean(estimates)), "kernel_std": float(np.std(estimates))}
        return finite(self.settings, scores)

    def kernel(self, first: Tensor, second: Tensor) -> Tensor:
        """Return `(gamma x.y + coef0)^degree` of vectors `(N, D)` and `(M, D)`, `(N, M)`."""
        settings = self.settings
        gamma = 1 / self.width if settings.gamma == "auto" else settings.gamma
        return (first @ second.T).mul_(gamma).add_(settings.coef0).pow_(settings.degree)

    def _subsets(self, first: int, second: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        random = np.random.RandomState(self.settings.seed)
        for _ in range(self.settings.subsets):
            drawn = [random.choice(count, size, replace=False) for count in (first, second)]
            yield torch.from_numpy(drawn[0]), torch.from_numpy(drawn[1])


def squared_discrepancy(first: Tensor, second: Tensor, kernel: Kernel, at_once: int = AT_ONCE) -> float:
    """Return the unbiased estimate of the squared MMD from every pair (Gretton et al., JMLR 13, 2012, lemma 6).

    Args:
        first: vectors `(N, D)`, N at least 2.
        second: vectors `(M, D)`, M at least 2.
        at_once: vectors of either set that are compared at once; it decides the memory and nothing else.
    """
    within = _mean_within(first, kernel, at_once) + _mean_within(second, kernel, at_once)
    across = sum(kernel(a.double(), b.double()).sum() for a in first.split(at_once) for b in second.split(at_once))
    return float(within - 2 * across / (len(first) * len(second)))


def _mean_within(vectors: Tensor, kernel: Kernel, at_once: int) -> Tensor:
    """Return the mean over pairs of different vectors."""
    blocks, total = vectors.split(at_once), torch.zeros((), dtype=torch.float64, device=vectors.device)
    for index, rows in enumerate(blocks):
        exact = rows.double()
        own = kernel(exact, exact)
        total += own.sum() - own.diagonal().sum()
        for columns in blocks[index + 1 :]:
            total += 2 * kernel(exact, columns.double()).sum()
    return total / (len(vectors) * (len(vectors) - 1))
