"""Frechet distance between Gaussians fitted to two sets of features."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..moments import Moments
from .checks import finite, require_images
from .settings import FrechetSettings


class FrechetDistance:
    """`|m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2)`, by symmetric eigen-decomposition in float64.

    The published tools take a general matrix square root, which is slower and may turn complex or NaN.
    """

    def __init__(self, settings: FrechetSettings, width: int) -> None:
        self.settings, self.width = settings, width

    def statistics(self) -> Moments:
        """Return empty statistics."""
        return Moments(self.width)

    def compute(self, generated: Moments, reference: Moments | None) -> dict[str, float]:
        """Return the distance, `frechet`.

        Raises:
            ValueError: fewer images than features, no reference, or features that are not finite.
        """
        require_images(self.settings, self.width, generated, reference)
        assert reference is not None
        distance = frechet_distance(generated.mean, generated.covariance, reference.mean, reference.covariance)
        return finite(self.settings, {"frechet": distance})


def frechet_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """Return the squared Frechet (2-Wasserstein) distance of two Gaussians with float64 moments."""
    if not all(bool(x.isfinite().all()) for x in (mean_a, covariance_a, mean_b, covariance_b)):
        return math.nan
    values, vectors = torch.linalg.eigh(covariance_a)
    root_a = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    inner = torch.linalg.eigvalsh(root_a @ covariance_b @ root_a)
    cross = inner.clamp_min(0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * cross
    return float(distance.clamp_min(0)) if bool(distance.isfinite()) else math.nan
