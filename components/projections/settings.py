"""Settings of the projections."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..registry import register
from ..settings import Settings


class ProjectionSettings(Settings):
    """Base of every projection's settings."""

    channels: int = Field(8, ge=1, le=4096, description="channels of the semantic stream (ReDi, CoReDi: 8)")
    fit_images: int = Field(4096, ge=64, description="images from which the feature statistics are taken")

    def learns(self) -> bool:
        """Return whether the projection changes during training."""
        return False

    def learns_from_image_alone(self) -> bool:
        """Return whether the image's loss moves the projection, and that on its own stream does not."""
        return False


@register("projection", "pca", builds=".pca:PCAProjection")
class PCASettings(ProjectionSettings):
    """Fixed principal components of the standardised features (ReDi, arXiv 2504.16064)."""

    whiten: bool = Field(False, description="give every component unit variance; ReDi does not")


@register("projection", "random", builds=".random:RandomProjection")
class RandomSettings(ProjectionSettings):
    """Fixed random orthonormal directions: the control experiment for PCA."""

    seed: int = Field(0, ge=0, description="seed of the directions")


class Regularizers(Settings):
    """Weights of the terms that keep a coevolving projection from collapsing (CoReDi names them VF, Ortho, Cov)."""

    cov: float = Field(0.1, ge=0, description="off-diagonal covariance of the channels")
    ortho: float = Field(0.0, ge=0, description="departure of the projection's columns from orthonormality")
    vf: float = Field(0.0, ge=0, description="token-to-token similarities of the features that the stream loses")


@register("projection", "coevolving", builds=".coevolving:CoevolvingProjection")
class CoevolvingSettings(ProjectionSettings):
    """Linear projection learned together with the diffusion model (CoReDi, arXiv 2604.17492)."""

    regularizer: Regularizers = Field(default_factory=Regularizers, description="anti-collapse terms, by weight")
    init: Literal["orthogonal", "pca"] = Field("orthogonal", description="where the projection starts")
    seed: int = Field(0, ge=0, description="seed of the orthogonal start")
    norm: bool = Field(True, description="batch-normalise the stream; off only to see what it prevents")
    norm_eps: float = Field(1e-4, gt=0, description="added to the variance by the batch norm")
    norm_momentum: float = Field(0.1, gt=0, le=1, description="step of the batch norm's running statistics")
    lr: float | None = Field(None, gt=0, description="own learning rate; empty: the network's")
    learns_from: Literal["all", "image"] = Field(
        "all", description="losses that move the projection through the noisy stream: all, or the image's alone"
    )
    live_share: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="learns_from image: share of the images whose stream carries gradient and has no loss of its own",
    )

    def learns(self) -> bool:
        """Return whether the projection changes during training: it does."""
        return True

    def learns_from_image_alone(self) -> bool:
        """Return whether the image's loss moves the projection, and that on its own stream does not."""
        return self.learns_from == "image"
