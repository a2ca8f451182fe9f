"""The kernel that is fastest on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from ...measured import remembered, seconds_of
from .kernel import AttentionKernel, AttentionShape
from .products import Products
from .sdpa import SDPA
from .settings import AttentionSettings, ProductsSettings, SDPASettings, XFormersSettings
from .trial import trials
from .xformers import XFormers

REFERENCE = "sdpa"

MEASURED_VALUES = {"cpu": 2**19, "cuda": 2**24}
"""Values of the queries that kernels are timed on: of 256 tokens and a width of 1,024, 2 images and 64."""

CLEARLY = 1.25
"""How many times the reference's speed another kernel needs: a tie would be decided anew on every machine."""


class AutoAttention:
    """PyTorch's own kernel until a device and a shape are known, then the fastest there.

    On CUDA the other one is xformers. On a CPU in bfloat16 it is plain products: there the backward pass of PyTorch's
    kernel took up to fourteen times as long (16 tokens, 4 heads of 32); in float32 it was as fast or faster wherever we
    looked. Without gradient a CPU always takes PyTorch's own, whose results do not depend on the batch.
    """

    def __init__(self, settings: AttentionSettings) -> None:
        del settings
        self.kernel: AttentionKernel = SDPA(SDPASettings())
        self.learning: AttentionKernel = self.kernel
        self.chosen = f"{REFERENCE} (auto: nothing measured)"

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Map `(B, tokens, heads, dim)` three times to the same shape."""
        return (self.learning if query.requires_grad else self.kernel)(query, key, value)

    def settle(self, shape: AttentionShape) -> None:
        """Measure, once a machine and shape, and choose."""
        try:
            other, kernel = _other(shape)
        except ValueError as reason:
            self.chosen = f"{REFERENCE} (auto: {reason})"
            return
        kernels = {REFERENCE: self.kernel, other: kernel}
        seconds = remembered({"what": "attention", **shape.described()}, lambda: _seconds(kernels, shape))
        gain = seconds[REFERENCE] / seconds[other]
        if gain >= CLEARLY:
            self.learning = kernel
            self.kernel = kernel if shape.device.type == "cuda" else self.kernel
        self.chosen = (
            f"{other if gain >= CLEARLY else REFERENCE} (auto: {other} has {gain:.2f}x the speed of sdpa here)"
        )

    def describe(self, device_type: str) -> str:
        """Return the choice, and why."""
        del device_type
        return self.chosen


def _other(shape: AttentionShape) -> tuple[str, AttentionKernel]:
    """Return what to compare the reference with.

    Raises:
        ValueError: nothing, and why.
    """
    if shape.device.type == "cpu":
        if shape.dtype != torch.bfloat16:
            raise ValueError(f"nothing is faster on a CPU in {str(shape.dtype).removeprefix('torch.')}")
        return "products", Products(ProductsSettings())
    if shape.device.type != "cuda":
        raise ValueError(f"xformers has no kernels for {shape.device.type}")
    kernel = XFormers(XFormersSettings())
    kernel.settle(shape)
    return "xformers", kernel


def _seconds(kernels: dict[str, AttentionKernel], shape: AttentionShape) -> dict[str, float]:
    batch = max(1, MEASURED_VALUES[shape.device.type] // (shape.tokens * shape.heads * shape.dim))
    return seconds_of(trials(kernels, shape, batch), shape.device)
