"""Density and coverage."""

from __future__ import annotations

import torch
from torch import Tensor

from ..feature_set import FeatureSet
from .checks import checked_values, finite
from .neighbours import AT_ONCE, compared, reach
from .settings import DensityCoverageSettings


class DensityCoverage:
    """arXiv 2002.09797, section 3, with the conventions of the authors' code (clovaai/generative-evaluation-prdc).

    A ball reaches to the k-th nearest of the others of the reference, and what lies on its surface is outside: the
    density of the reference itself is then exactly 1, if no distances are equal.
    """

    def __init__(self, settings: DensityCoverageSettings, width: int) -> None:
        self.settings, self.width = settings, width

    def statistics(self) -> FeatureSet:
        """Return empty statistics."""
        return FeatureSet(self.width)

    def compute(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        """Return `density`, at least 0, and `coverage`, in [0, 1].

        Raises:
            ValueError: no image, not more than k of the reference, no reference, or features that are not finite.
        """
        density, coverage = density_coverage(
            *checked_values(self.settings, self.width, generated, reference), self.settings.k
        )
        return finite(self.settings, {"density": density, "coverage": coverage})


def density_coverage(generated: Tensor, reference: Tensor, k: int, at_once: int = AT_ONCE) -> tuple[float, float]:
    """Return of generated `(N, D)` and reference `(M, D)`, M above k, the two that the class is named for.

    Density is the mean number of balls about the reference that a generated vector lies in, over k; coverage the share
    of these balls that hold one.
    """
    reach_of_reference = reach(reference, k, at_once)
    held = torch.zeros((), dtype=torch.long, device=generated.device)
    covered = torch.zeros(len(reference), dtype=torch.bool, device=reference.device)
    for _, columns, squared in compared(generated, reference, closed=False, at_once=at_once):
        inside = squared < reach_of_reference[columns]
        held += inside.sum()
        covered[columns] |= inside.any(0)
    return float(held) / (k * len(generated)), float(covered.double().mean())
