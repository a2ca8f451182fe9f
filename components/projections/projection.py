"""What every projection is: standardised features times a matrix."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..merging import ALONE, Merge
from .settings import ProjectionSettings
from .statistics import FeatureStatistics


class Projection(nn.Module):
    """Features `(B, D, h, w)` to the semantic stream `(B, channels, h, w)`.

    Features are standardised per channel with dataset statistics, then projected by a matrix `(D, channels)`.
    A projection is fitted once, before training; what it fitted is part of its state. `stream_std` is then the
    nominal standard deviation of the stream.
    """

    mean: Tensor
    std: Tensor
    fitted: Tensor
    stream_std: Tensor

    def __init__(self, settings: ProjectionSettings, features: int) -> None:
        super().__init__()
        if settings.channels > features:
            raise ValueError(f"cannot project {features} features to {settings.channels} channels")
        self.channels, self.features = settings.channels, features
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.register_buffer("fitted", torch.tensor(False))
        self._known_fitted = False
        self.register_buffer("stream_std", torch.tensor(1.0))

    @property
    def learning_rate(self) -> float | None:
        """Own learning rate of the parameters, or None for the network's."""
        return None

    @property
    def live_share(self) -> float | None:
        """Share of the images of a batch through which it learns, or None for all of them.

        The others see the stream without gradient; those that carry gradient have no loss on the stream.
        """
        return None

    def fit(self, grids: Iterable[Tensor], merge: Merge = ALONE) -> None:
        """Take feature statistics from grids `(B, D, h, w)` of the data set, this process' share of them."""
        statistics = FeatureStatistics(grids, self.features, merge)
        self.mean.copy_(statistics.mean)
        self.std.copy_(statistics.std)
        matrix = self._fit(statistics).double()
        self.stream_std.copy_(self._std(statistics.correlation, matrix))
        self.fitted.fill_(True)

    def _fit(self, statistics: FeatureStatistics) -> Tensor:
        """Set what depends on the statistics and return the matrix `(D, channels)`."""
        raise NotImplementedError

    def _std(self, correlation: Tensor, matrix: Tensor) -> Tensor:
        """Return the root mean variance of the stream's channels, for the correlation of the features."""
        return (matrix.T @ correlation @ matrix).diagonal().mean().sqrt()

    def standardize(self, grid: Tensor) -> Tensor:
        """Return `(features - mean) / std`, float32."""
        # Read once: on a GPU every look at the flag would wait for all that is queued.
        self._known_fitted = self._known_fitted or bool(self.fitted)
        if not self._known_fitted:
            raise RuntimeError("this projection is not fitted yet: call fit(feature grids) first")
        return (grid.float() - self.mean[:, None, None]) / self.std[:, None, None]

    def regularizers(self, grid: Tensor, stream: Tensor) -> dict[str, Tensor]:
        """Return weighted scalar losses by name, for features and the stream made of them; none for a fixed one."""
        del grid, stream
        return {}


class FixedProjection(Projection):
    """A projection that does not learn; its matrix is a buffer."""

    matrix: Tensor

    def __init__(self, settings: ProjectionSettings, features: int) -> None:
        super().__init__(settings, features)
        self.register_buffer("matrix", torch.zeros(features, settings.channels))

    @torch.no_grad()
    def forward(self, grid: Tensor) -> Tensor:
        """Project feature grids `(B, D, h, w)`."""
        return project(self.standardize(grid), self.matrix)


def project(standardized: Tensor, matrix: Tensor) -> Tensor:
    """Apply a matrix `(D, d)` to every position of `(B, D, h, w)`, in float32 whatever the autocast."""
    with torch.autocast(standardized.device.type, enabled=False):
        return torch.einsum("bfhw,fc->bchw", standardized, matrix.float())


def orthonormal(features: int, channels: int, seed: int) -> Tensor:
    """Return random orthonormal columns `(features, channels)`, a function of the seed."""
    generator = torch.Generator().manual_seed(seed)
    basis, upper = torch.linalg.qr(torch.randn(features, channels, generator=generator, dtype=torch.float64))
    return (basis * upper.diagonal().sign()).float()
