"""Implicit sampling (DDIM, arXiv 2010.02502, equations 12 and 16)."""

from __future__ import annotations

import math

from torch import Tensor

from ..paths import DiffusionPath
from ..streams import Streams
from .chain import ChainSampler, ChainStep
from .settings import ImplicitSettings


class Implicit(ChainSampler):
    """The predicted clean stream is noised again by the predicted noise, and `eta` replaces some of that by fresh."""

    def __init__(self, settings: ImplicitSettings, path: DiffusionPath) -> None:
        super().__init__(settings, path)
        self.eta, self.noisy = settings.eta, settings.eta > 0

    def mean(self, step: ChainStep, noisy: Tensor, eps: Tensor) -> Tensor:
        """Return the next level without its fresh noise."""
        left = 1 - step.kept_next - self._spread(step) ** 2
        return math.sqrt(step.kept_next) * step.clean(noisy, eps) + math.sqrt(left) * eps

    def std(self, step: ChainStep, name: str, predicted: Streams) -> Tensor | float:
        """Return the deviation of equation 16, the same for all streams."""
        del name, predicted
        return self._spread(step)

    def _spread(self, step: ChainStep) -> float:
        return self.eta * math.sqrt(step.posterior_variance)
