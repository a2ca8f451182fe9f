"""The projection of ReDi."""

from __future__ import annotations

import torch
from torch import Tensor

from .projection import FixedProjection
from .settings import PCASettings
from .statistics import FeatureStatistics


class PCAProjection(FixedProjection):
    """First principal components of the standardised features (ReDi, section 3.2): not whitened, unless asked."""

    def __init__(self, settings: PCASettings, features: int) -> None:
        super().__init__(settings, features)
        self.whiten = settings.whiten

    def _fit(self, statistics: FeatureStatistics) -> Tensor:
        components, variance = statistics.principal_components(self.channels)
        if self.whiten:
            components = components / variance.clamp_min(torch.finfo(torch.float32).eps).sqrt()
        self.matrix.copy_(components)
        return components
