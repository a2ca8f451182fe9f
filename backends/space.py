"""What the spaces share: how a batch of images becomes streams, and how streams become images again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..components.encoders.encoder import Accelerable, Encoder
from ..components.images import to_unit
from ..components.streams import IMAGE, Streams
from ..components.tokenizers.tokenizer import Tokenizer
from .randomness import derived_generator

PIXELS_AT_ONCE = 2**19
"""An autoencoder takes kilobytes a pixel: it decodes, and reconstructs, so many at a time (8 images of 256 x 256)."""


def images_at_once(side: int) -> int:
    """Return how many square images of a side the frozen networks take at a time, outside training steps."""
    return max(1, PIXELS_AT_ONCE // side**2)


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
        piece: images that its networks take at a time, outside training steps.
    """

    lossy: ClassVar[bool] = False

    def __init__(self, tokenizer: Tokenizer, encoder: Encoder | None, *, piece: int = images_at_once(32)) -> None:
        super().__init__()
        self.tokenizer, self.encoder, self.piece = tokenizer, encoder, piece

    @property
    def device(self) -> torch.device:
        """Where its networks are."""
        parameter = next(self.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def accelerate(self) -> None:
        """Prepare for encoding many batches."""
        if isinstance(self.encoder, Accelerable):
            self.encoder.accelerate()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Encoded:
        """Encode images `(B, 3, H, W)` uint8."""
        unit = to_unit(images)
        features = None if self.encoder is None else self.encoder(unit).grid
        return Encoded(code=self.tokenizer.encode(unit), features=features)

    @torch.no_grad()
    def observe(self, encoded: Encoded, generator: torch.Generator) -> Observation:
        """Draw the image stream of what was encoded."""
        image = self.tokenizer.draw(encoded.code, generator)
        return Observation(image=image, features=encoded.features, semantic=encoded.semantic)

    @torch.no_grad()
    def decode(self, streams: Streams) -> Tensor:
        """Return images `(B, 3, H, W)` in [-1, 1]."""
        return torch.cat([self.tokenizer.decode(part).clamp(-1, 1) for part in streams[IMAGE].split(self.piece)])

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Return images `(B, 3, H, W)` uint8 as they come out of the space, in [-1, 1]."""
        code = torch.cat([self.tokenizer.encode(to_unit(part)) for part in images.split(self.piece)])
        return self.decode({IMAGE: self.tokenizer.draw(code, derived_generator(images.device, "reconstruction"))})
