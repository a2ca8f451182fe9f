"""Inception score."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..feature_set import FeatureSet
from .checks import finite, require_finite_values, require_images
from .settings import InceptionScoreSettings


class InceptionScore:
    """`exp E[KL(p(y|x) || p(y))]` (arXiv 1606.03498, section 4), of parts drawn as torch-fidelity draws them."""

    def __init__(self, settings: InceptionScoreSettings, width: int) -> None:
        self.settings, self.width = settings, width

    def statistics(self) -> FeatureSet:
        """Return empty statistics, of logits."""
        return FeatureSet(self.width)

    def compute(self, generated: FeatureSet, reference: FeatureSet | None = None) -> dict[str, float]:
        """Return `inception_score`, from 1 to the number of classes, and its deviation over parts.

        The latter, `inception_score_std`, is the standard deviation of the parts' scores.

        Raises:
            ValueError: fewer images than parts, or logits that are not finite.
        """
        del reference
        require_images(self.settings, self.width, generated)
        require_finite_values(self.settings, generated.values, "generated")
        scores = [inception_score(part) for part in self._parts(generated.values)]
        return finite(
            self.settings,
            {"inception_score": float(np.mean(scores)), "inception_score_std": float(np.std(scores))},
        )

    def _parts(self, logits: Tensor) -> list[Tensor]:
        order = np.arange(len(logits))
        if self.settings.shuffle:
            order = np.random.RandomState(self.settings.seed).permutation(len(logits))
        splits = self.settings.splits
        ends = [part * len(logits) // splits for part in range(splits + 1)]
        return [logits[torch.from_numpy(order[start:end])] for start, end in pairwise(ends)]


def inception_score(logits: Tensor) -> float:
    """Return the score of logits `(N, K)`.

    As a difference of entropies, which stays finite where a class has no probability at all.
    """
    log_probability = logits.double().log_softmax(1)
    probability = log_probability.exp()
    marginal = probability.mean(0)
    certainty = (probability * log_probability).sum(1).mean()
    return float((certainty - torch.xlogy(marginal, marginal).sum()).exp())
