"""The kernel that is fastest on the device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...measured import remembered, seconds_of
from .kernel import AttentionKernel, AttentionShape
from .sdpa import SDPA
from .settings import AttentionSettings, SDPASettings, XFormersSettings
from .xformers import XFormers, load_xformers

REFERENCE = "sdpa"

MEASURED_VALUES = 2**24
"""Values of the queries that kernels are timed on: 64 images of 256 tokens and a width of 1,024."""


class AutoAttention:
    """PyTorch's own kernel until a device and a shape are known, then the fastest there."""

    def __init__(self, settings: AttentionSettings) -> None:
        del settings
        self.kernel: AttentionKernel = SDPA(SDPASettings())
        self.chosen = f"{REFERENCE} (auto: nothing measured)"

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Map `(B, tokens, heads, dim)` three times to the same shape."""
        return self.kernel(query, key, value)

    def settle(self, shape: AttentionShape) -> None:
        """Measure, once a machine and shape, and choose."""
        if shape.device.type != "cuda":
            self.chosen = f"{REFERENCE} (auto: xformers has no kernels for {shape.device.type})"
            return
        try:
            load_xformers()
        except ImportError as error:
            self.chosen = f"{REFERENCE} (auto: no xformers: {error})"
            return
        kernels: dict[str, AttentionKernel] = {REFERENCE: self.kernel, "xformers": XFormers(XFormersSettings())}
        seconds = remembered({"what": "attention", **shape.described()}, lambda: _seconds(kernels, shape))
        name = min(seconds, key=lambda each: seconds[each])
        self.kernel = kernels[name]
        others = ", ".join(f"{other} {seconds[other] / seconds[name]:.2f}x" for other in seconds if other != name)
        self.chosen = f"{name} (auto: measured here; {others} its time)"

    def describe(self, device_type: str) -> str:
        """Return the choice, and why."""
        del device_type
        return self.chosen


def _seconds(kernels: dict[str, AttentionKernel], shape: AttentionShape) -> dict[str, float]:
    batch = max(1, MEASURED_VALUES // (shape.tokens * shape.heads * shape.dim))
    size = (batch, shape.tokens, shape.heads, shape.dim)
    inputs = [torch.randn(size, device=shape.device, dtype=shape.dtype, requires_grad=True) for _ in range(3)]

    def both_ways(kernel: AttentionKernel) -> Callable[[], object]:
        return lambda: torch.autograd.grad(kernel(*inputs).sum(), inputs)

    return seconds_of({name: both_ways(kernel) for name, kernel in kernels.items()}, shape.device)
