"""What the spaces share: how a batch of images becomes streams, and how streams become images again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..components.encoders.encoder import Accelerable, Encoder
from ..components.images import to_unit
from ..components.rows import equal_pieces
from ..components.streams import IMAGE, Streams
from ..components.tokenizers.tokenizer import Normal, Tokenizer
from .randomness import derived_generator, normal_of

PIXELS_AT_ONCE = {"cpu": 2**15, "cuda": 2**21}
"""An autoencoder takes kilobytes a pixel: so many are decoded, or reconstructed, at a time. A CPU gains nothing by more
than its caches hold (1 image of 256 x 256, 32 of 32 x 32); a GPU has to be kept busy (32 of 256 x 256)."""


@dataclass(frozen=True)
class Encoded:
    """What frozen networks make of a batch of images: always the same, so that it may be stored.

    Attributes:
        code: what the tokenizer makes of the images.
        features: feature grids `(B, D, h, w)`, if there is an encoder and its features are not projected yet.
        semantic: the semantic stream at the grid of the features, where a fixed projection was applied beforehand.
    """

    code: Tensor
    features: Tensor | None = None
    semantic: Tensor | None = None


@dataclass(frozen=True)
class Observation:
    """The same with the image stream drawn from its code."""

    image: Tensor
    features: Tensor | None = None
    semantic: Tensor | None = None


class Space(nn.Module):
    """Frozen tokenizer and encoder. Nothing in here learns, and nothing of it is in a checkpoint.

    Attributes:
        lossy: whether images lose something on the way into the space and back.
    """

    lossy: ClassVar[bool] = False

    def __init__(self, tokenizer: Tokenizer, encoder: Encoder | None, image_size: int) -> None:
        super().__init__()
        self.tokenizer, self.encoder, self.image_size = tokenizer, encoder, image_size

    @property
    def device(self) -> torch.device:
        """Where its networks are."""
        parameter = next(self.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    @property
    def piece(self) -> int:
        """How many images its networks take at a time, outside training steps."""
        pixels = PIXELS_AT_ONCE.get(self.device.type, PIXELS_AT_ONCE["cpu"])
        return max(1, pixels // self.image_size**2)

    def accelerate(self) -> None:
        """Prepare for encoding many batches."""
        if isinstance(self.encoder, Accelerable):
            self.encoder.accelerate()

    def encode(self, images: Tensor) -> Encoded:
        """Encode images `(B, 3, H, W)` uint8."""
        return Encoded(code=self.code(images), features=self.features(images))

    @torch.no_grad()
    def code(self, images: Tensor) -> Tensor:
        """Return what the tokenizer makes of images `(B, 3, H, W)` uint8."""
        return self.tokenizer.encode(to_unit(images))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor | None:
        """Return feature grids `(B, D, h, w)` of images `(B, 3, H, W)` uint8, if there is an encoder."""
        return None if self.encoder is None else self.encoder(to_unit(images)).grid

    @torch.no_grad()
    def observe(self, encoded: Encoded, normal: Normal) -> Observation:
        """Draw the image stream of what was encoded, with noise of a shape `(B, ...)` where it takes some."""
        image = self.tokenizer.draw(encoded.code, normal)
        return Observation(image=image, features=encoded.features, semantic=encoded.semantic)

    @torch.no_grad()
    def decode(self, streams: Streams) -> Tensor:
        """Return images `(B, 3, H, W)` in [-1, 1]."""
        codes = streams[IMAGE]
        pieces = equal_pieces(codes, self.piece) if self.lossy else [codes]
        return torch.cat([self.tokenizer.decode(piece).clamp(-1, 1) for piece in pieces])[: len(codes)]

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Return images `(B, 3, H, W)` uint8 as they come out of the space, in [-1, 1]."""
        code = torch.cat([self.code(part) for part in images.split(self.piece)])
        normal = normal_of(derived_generator(images.device, "reconstruction"))
        return self.decode({IMAGE: self.tokenizer.draw(code, normal)})
