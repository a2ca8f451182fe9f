"""What every tokenizer gives."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Tokenizer(Protocol):
    """A frozen, invertible map between images `(B, 3, H, W)` in [-1, 1] and the image stream `(B, C, h, w)`."""

    def encode(self, images: Tensor) -> Tensor:
        """Return the image stream."""
        ...

    def decode(self, stream: Tensor) -> Tensor:
        """Return images."""
        ...
