"""Improved precision and recall."""

from __future__ import annotations

import torch
from torch import Tensor

from ..feature_set import FeatureSet
from .checks import checked_values, finite
from .neighbours import AT_ONCE, compared, reach
from .settings import PrecisionRecallSettings


class PrecisionRecall:
    """arXiv 1904.06991, equations 1 and 2, with the conventions of the authors' code and of torch-fidelity.

    A ball reaches to the k-th nearest of the others of its set, and what lies on its surface belongs to it.
    """

    def __init__(self, settings: PrecisionRecallSettings, width: int) -> None:
        self.settings, self.width = settings, width

    def statistics(self) -> FeatureSet:
        """Return empty statistics."""
        return FeatureSet(self.width)

    def compute(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        """Return `precision` and `recall`, both in [0, 1].

        Raises:
            ValueError: not more than k images of either set, no reference, or features that are not finite.
        """
        precision, recall = precision_recall(
            *checked_values(self.settings, self.width, generated, reference), self.settings.k
        )
        return finite(self.settings, {"precision": precision, "recall": recall})


def precision_recall(generated: Tensor, reference: Tensor, k: int, at_once: int = AT_ONCE) -> tuple[float, float]:
    """Return which share of each set `(N, D)`, `(M, D)` lies in a ball of the other; N and M are above k."""
    reach_of_generated, reach_of_reference = reach(generated, k, at_once), reach(reference, k, at_once)
    precise = torch.zeros(len(generated), dtype=torch.bool, device=generated.device)
    recalled = torch.zeros(len(reference), dtype=torch.bool, device=reference.device)
    for rows, columns, squared in compared(generated, reference, closed=True, at_once=at_once):
        precise[rows] |= (squared <= reach_of_reference[columns]).any(1)
        recalled[columns] |= (squared <= reach_of_generated[rows, None]).any(0)
    return float(precise.double().mean()), float(recalled.double().mean())
