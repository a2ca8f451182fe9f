"""Ancestral sampling (DDPM, arXiv 2006.11239, algorithm 2), with learned variance (arXiv 2102.09672, equation 15)."""

from __future__ import annotations

import math

from torch import Tensor

from ..paths import DiffusionPath
from ..streams import Streams, variance_of
from .chain import ChainSampler, ChainStep
from .settings import AncestralSettings


class Ancestral(ChainSampler):
    """A step's mean is that of `q(x_next | x_now, x)` for the predicted clean stream; its variance is chosen."""

    def __init__(self, settings: AncestralSettings, path: DiffusionPath) -> None:
        super().__init__(settings, path)
        self.variance = settings.variance

    def mean(self, step: ChainStep, noisy: Tensor, eps: Tensor) -> Tensor:
        """Return the posterior's mean."""
        of_clean = step.beta * math.sqrt(step.kept_next) / (1 - step.kept)
        of_noisy = (1 - step.kept_next) * math.sqrt(1 - step.beta) / (1 - step.kept)
        return of_clean * step.clean(noisy, eps) + of_noisy * noisy

    def std(self, step: ChainStep, name: str, predicted: Streams) -> Tensor | float:
        """Return the chosen deviation; a learned one `(B, C, H, W)` lies between the bounds in log-variance."""
        if self.variance == "small":
            return math.sqrt(step.posterior_variance)
        if self.variance == "large" or variance_of(name) not in predicted:
            return math.sqrt(step.beta)
        low, high = math.log(step.posterior_variance), math.log(step.beta)
        fraction = (predicted[variance_of(name)] + 1) / 2
        return ((fraction * high + (1 - fraction) * low) / 2).exp()
