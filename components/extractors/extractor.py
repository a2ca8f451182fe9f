"""What every network of scores gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class Extracted:
    """What an extractor says of a batch of images.

    Attributes:
        features: one vector an image, `(B, D)`, float32.
        logits: what it says of classes, `(B, K)`, float32; None if it knows none.
    """

    features: Tensor
    logits: Tensor | None = None


@runtime_checkable
class Extractor(Protocol):
    """A frozen network. It owns its resize and normalisation, and computes no gradient."""

    def __call__(self, images: Tensor) -> Extracted:
        """Read images `(B, 3, H, W)` of any size in 8 bits (uint8): they are scored as they would be stored."""
        ...
