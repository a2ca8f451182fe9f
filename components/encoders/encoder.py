"""What every semantic encoder gives."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from ..streams import Features


@runtime_checkable
class Encoder(Protocol):
    """A frozen network. It owns its resize and normalisation, and computes no gradient."""

    def __call__(self, images: Tensor) -> Features:
        """Encode images `(B, 3, H, W)` in [-1, 1] of any size."""
        ...
