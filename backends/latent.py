"""The latent space."""

from __future__ import annotations

from typing import ClassVar

from .space import Space


class LatentSpace(Space):
    """Images are encoded by an autoencoder: no image can come out better than its reconstruction."""

    lossy: ClassVar[bool] = True
