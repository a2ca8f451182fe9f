"""What every attention kernel is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class AttentionShape:
    """What the speed of a kernel depends on, beside the batch."""

    device: torch.device
    dtype: torch.dtype
    tokens: int
    heads: int
    dim: int

    def described(self) -> dict[str, Any]:
        """Return it in plain values, with the name of the device and the version of torch."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        sizes = {"tokens": self.tokens, "heads": self.heads, "dim": self.dim}
        return {"device": name, "dtype": str(self.dtype), "torch": str(torch.__version__), **sizes}


@runtime_checkable
class AttentionKernel(Protocol):
    """Softmax attention without mask, scaled by 1/sqrt(head dim)."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Map `(B, tokens, heads, dim)` three times to the same shape."""
        ...

    def settle(self, shape: AttentionShape) -> None:
        """Prepare for a device and a shape; nothing is chosen any more while a network runs.

        Raises:
            ValueError: it has nothing for them.
        """
        ...

    def describe(self, device_type: str) -> str:
        """Return the kernel used on a kind of device, and why.

        Raises:
            ValueError: it cannot run there.
        """
        ...
