"""Diffusion directly on pixels, as in JiT (arXiv 2511.13720)."""

from __future__ import annotations

from torch import Tensor, nn

from .settings import PixelSettings


class PixelTokenizer(nn.Module):
    """The identity: pixels stay in [-1, 1], as JiT noises them."""

    def __init__(self, settings: PixelSettings) -> None:
        super().__init__()
        del settings

    def encode(self, images: Tensor) -> Tensor:
        """Return the images."""
        return images

    def decode(self, stream: Tensor) -> Tensor:
        """Return the stream."""
        return stream
