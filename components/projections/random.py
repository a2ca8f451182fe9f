"""The control for PCA: directions that know nothing of the data."""

from __future__ import annotations

from torch import Tensor

from .projection import FixedProjection, orthonormal
from .settings import RandomSettings
from .statistics import FeatureStatistics


class RandomProjection(FixedProjection):
    """Random orthonormal directions of the standardised features."""

    def __init__(self, settings: RandomSettings, features: int) -> None:
        super().__init__(settings, features)
        self.seed = settings.seed

    def _fit(self, statistics: FeatureStatistics) -> Tensor:
        del statistics
        self.matrix.copy_(orthonormal(self.features, self.channels, self.seed))
        return self.matrix
