"""What projections need to know of the features of a data set."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ..merging import ALONE, Merge
from ..moments import Moments


class FeatureStatistics:
    """Mean, spread and principal directions of feature vectors `(D,)`, float64; every grid position is one vector."""

    def __init__(self, grids: Iterable[Tensor], width: int, merge: Merge = ALONE) -> None:
        own = Moments(width)
        for grid in grids:
            own.update(grid.movedim(1, -1).flatten(0, -2))
        moments = own.merged(merge)
        if moments.count < 2:
            raise ValueError("feature statistics need at least two feature vectors")
        self.mean = moments.mean
        variance = moments.covariance.diagonal()
        self.std = torch.where(variance > 1e-12, variance, torch.ones_like(variance)).sqrt()
        self.correlation = moments.covariance / torch.outer(self.std, self.std)

    def principal_components(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the first components `(D, count)` of the standardised features and their variances `(count,)`.

        Signs are fixed (the largest entry of a component is positive), so that equal data give equal components.
        """
        variance, vectors = torch.linalg.eigh(self.correlation)
        variance, vectors = variance.flip(0)[:count], vectors.flip(1)[:, :count]
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        return vectors * largest.sign(), variance.clamp_min(0)
