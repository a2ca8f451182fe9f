"""What the spaces share: how a batch of images becomes streams, and how streams become images again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..components.encoders.encoder import Encoder
from ..components.images import to_unit
from ..components.streams import IMAGE, Streams
from ..components.tokenizers.tokenizer import Tokenizer


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
    """Frozen tokenizer and encoder. Nothing in here learns, and nothing of it is in a checkpoint."""

    def __init__(self, tokenizer: Tokenizer, encoder: Encoder | None) -> None:
        super().__init__()
        self.tokenizer, self.encoder = tokenizer, encoder

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
        return self.tokenizer.decode(streams[IMAGE]).clamp(-1, 1)

    def quality(self, images: Tensor) -> dict[str, float]:
        """Return what the way through the space and back loses of images `(B, 3, H, W)` uint8, by name."""
        del images
        return {}
