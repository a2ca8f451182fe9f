"""The projection of CoReDi (arXiv 2604.17492): it learns together with the diffusion model.

Published are a linear map learned jointly, stop-gradient targets, batch normalisation and regularisers named VF,
Ortho and Cov. Their exact forms are not; the forms and defaults here are our choice. Each guards against one way
to lower the loss without learning anything: the stop-gradient (in the process) against flattening the stream, the
norm against inflating it above the noise, Cov and Ortho against several copies of one direction, whose independent
noises would average out, VF against forgetting which positions of the image resemble each other.

None of them guards against losing the meaning. With a detached target and a live noisy stream, the gradient of the
semantic loss `|D(z_t) - z|^2` with respect to `z` is `2 t J^T (D(z_t) - z)`, `J = dD/dz_t`: descent pushes the stream
along its own unpredictable residual. The norm forbids growth, so `P` turns towards features that the network cannot
predict, while rank, variance and covariance stay as they should be. `learns_from: image` (our choice, unpublished)
removes that force: a share of the images carries gradient and has no semantic loss, the others have both losses and
carry none. It costs nothing, and the gradient of `P` is that of the image's loss over the live images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..across import mean_over_processes
from .batch_norm import SyncedBatchNorm
from .projection import Projection, orthonormal, project
from .settings import CoevolvingSettings
from .statistics import FeatureStatistics

VF_MARGIN = 0.25


class CoevolvingProjection(Projection):
    """`z = BN(f P)` with a learned `P` `(D, channels)`; the gradient reaches `P` through whatever uses `z`."""

    def __init__(self, settings: CoevolvingSettings, features: int) -> None:
        super().__init__(settings, features)
        self.settings = settings
        self.matrix = nn.Parameter(torch.zeros(features, settings.channels))
        self.norm = (
            SyncedBatchNorm(settings.channels, settings.norm_eps, settings.norm_momentum)
            if settings.norm
            else nn.Identity()
        )

    @property
    def learning_rate(self) -> float | None:
        """Own learning rate of `P`, or None for the network's."""
        return self.settings.lr

    @property
    def live_share(self) -> float | None:
        """Share of the images through which `P` learns, from the image's loss alone; None: all, from all losses."""
        return self.settings.live_share if self.settings.learns_from == "image" else None

    def _fit(self, statistics: FeatureStatistics) -> Tensor:
        if self.settings.init == "pca":
            matrix, _ = statistics.principal_components(self.channels)
        else:
            matrix = orthonormal(self.features, self.channels, self.settings.seed).double()
        with torch.no_grad():
            self.matrix.copy_(matrix)
        if isinstance(self.norm, SyncedBatchNorm):
            self.norm.running_var.copy_((matrix.T @ statistics.correlation @ matrix).diagonal())
        return matrix

    def _std(self, correlation: Tensor, matrix: Tensor) -> Tensor:
        return torch.ones(()) if self.settings.norm else super()._std(correlation, matrix)

    def forward(self, grid: Tensor) -> Tensor:
        """Project feature grids `(B, D, h, w)` to a stream of zero mean and unit variance a channel."""
        stream: Tensor = self.norm(project(self.standardize(grid), self.matrix))
        return stream

    def regularizers(self, grid: Tensor, stream: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms whose weight is not zero."""
        weight = self.settings.regularizer
        terms: dict[str, Tensor] = {}
        if weight.cov:
            terms["cov"] = weight.cov * covariance_penalty(stream)
        if weight.ortho:
            terms["ortho"] = weight.ortho * orthogonality_penalty(self.matrix)
        if weight.vf:
            terms["vf"] = weight.vf * similarity_penalty(stream, self.standardize(grid))
        return terms


def covariance_penalty(stream: Tensor) -> Tensor:
    """Return `(1/d) sum_{i != j} C_ij^2` with `C = z^T z / (B N)` over all positions of a stream `(B, d, h, w)`.

    `C` is that of all processes: the mean of the squares of their own would be another penalty.
    """
    vectors = stream.float().movedim(1, -1).flatten(0, -2)
    with torch.autocast(stream.device.type, enabled=False):
        covariance = mean_over_processes(vectors.T @ vectors / len(vectors))
    off_diagonal = covariance - covariance.diagonal().diag()
    return off_diagonal.square().sum() / stream.shape[1]


def orthogonality_penalty(matrix: Tensor) -> Tensor:
    """Return `|P^T P - I|_F^2` for the columns of `P` scaled to unit length."""
    columns = F.normalize(matrix.float(), dim=0)
    with torch.autocast(matrix.device.type, enabled=False):
        gram = columns.T @ columns
    return (gram - torch.eye(gram.shape[0], device=gram.device)).square().sum()


def similarity_penalty(stream: Tensor, features: Tensor) -> Tensor:
    """Return `mean relu(|cos(z_i, z_j) - cos(f_i, f_j)| - 0.25)` over pairs of positions of each image (VA-VAE)."""
    with torch.autocast(stream.device.type, enabled=False):
        of_stream, of_features = (F.normalize(x.float().flatten(2), dim=1) for x in (stream, features))
        difference = of_stream.mT @ of_stream - of_features.mT @ of_features
    return F.relu(difference.abs() - VF_MARGIN).mean()
