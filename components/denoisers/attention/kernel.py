"""What every attention kernel is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class AttentionKernel(Protocol):
    """Softmax attention without mask, scaled by 1/sqrt(head dim)."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Map `(B, tokens, heads, dim)` three times to the same shape."""
        ...

    def describe(self, device_type: str) -> str:
        """Return the kernel used on a kind of device, and why.

        Raises:
            ValueError: it cannot run there.
        """
        ...
