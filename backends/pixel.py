"""The pixel space: how a batch of images becomes streams, and how streams become images again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..components.data.source import to_unit
from ..components.encoders.encoder import Encoder
from ..components.streams import IMAGE, Streams
from ..components.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True)
class Observation:
    """What frozen networks make of a batch: the image stream and, with an encoder, feature grids `(B, D, h, w)`."""

    image: Tensor
    features: Tensor | None


class PixelSpace(nn.Module):
    """Frozen tokenizer and encoder. Nothing in here learns, and nothing of it is in a checkpoint."""

    def __init__(self, tokenizer: Tokenizer, encoder: Encoder | None) -> None:
        super().__init__()
        self.tokenizer, self.encoder = tokenizer, encoder

    @torch.no_grad()
    def observe(self, images: Tensor) -> Observation:
        """Encode images `(B, 3, H, W)` uint8."""
        unit = to_unit(images)
        features = None if self.encoder is None else self.encoder(unit).grid
        return Observation(image=self.tokenizer.encode(unit), features=features)

    @torch.no_grad()
    def decode(self, streams: Streams) -> Tensor:
        """Return images `(B, 3, H, W)` in [-1, 1]."""
        return self.tokenizer.decode(streams[IMAGE]).clamp(-1, 1)
