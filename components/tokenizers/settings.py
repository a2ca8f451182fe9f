"""Settings of the tokenizers."""

from __future__ import annotations

from ..registry import register
from ..settings import Settings


class TokenizerSettings(Settings):
    """Base of every tokenizer's settings: the shape of the image stream is known before anything is built."""

    def channels(self) -> int:
        """Return the channels of the image stream."""
        raise NotImplementedError

    def grid(self, image_size: int) -> int:
        """Return the side of the image stream for square images of `image_size` pixels."""
        raise NotImplementedError


@register("tokenizer", "pixel", builds=".pixel:PixelTokenizer")
class PixelSettings(TokenizerSettings):
    """The image stream is the image itself: three channels in [-1, 1]."""

    def channels(self) -> int:
        """Red, green, blue."""
        return 3

    def grid(self, image_size: int) -> int:
        """One element a pixel."""
        return image_size
