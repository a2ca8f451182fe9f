"""Diffusion directly on pixels, as in JiT (arXiv 2511.13720)."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from ..images import to_pixels, to_unit
from ..merging import ALONE, Merge
from .settings import PixelSettings
from .tokenizer import Normal


class PixelTokenizer(nn.Module):
    """The identity: pixels stay in [-1, 1], as JiT noises them."""

    normalization = None

    def __init__(self, settings: PixelSettings) -> None:
        super().__init__()
        del settings

    def encode(self, images: Tensor) -> Tensor:
        """Return the images."""
        return images

    def store(self, code: Tensor) -> Tensor:
        """Return pixels in 8 bits, which images come in."""
        return to_pixels(code)

    def restore(self, stored: Tensor) -> Tensor:
        """Return pixels in [-1, 1]."""
        return to_unit(stored)

    def draw(self, code: Tensor, normal: Normal) -> Tensor:
        """Return the images."""
        del normal
        return code

    def decode(self, stream: Tensor) -> Tensor:
        """Return the stream."""
        return stream

    def fit(self, codes: Iterable[Tensor], merge: Merge = ALONE) -> None:
        """Measure nothing."""
        del codes, merge
