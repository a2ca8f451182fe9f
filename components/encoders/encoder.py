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


@runtime_checkable
class Accelerable(Protocol):
    """An encoder that can be made faster, at the price of a pause."""

    def accelerate(self) -> None:
        """Prepare for many batches of few shapes; features stay the same up to rounding."""
        ...
