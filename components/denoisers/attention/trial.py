"""Attention kernels to be timed: forwards and backwards, on random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from .kernel import AttentionKernel, AttentionShape


def trials(
    kernels: Mapping[str, AttentionKernel], shape: AttentionShape, batch: int
) -> dict[str, Callable[[], object]]:
    """Return a call for each kernel that computes it and its gradient, all on the same inputs."""
    size = (batch, shape.tokens, shape.heads, shape.dim)
    inputs = [torch.randn(size, device=shape.device, dtype=shape.dtype, requires_grad=True) for _ in range(3)]

    def both_ways(kernel: AttentionKernel) -> Callable[[], object]:
        return lambda: torch.autograd.grad(kernel(*inputs).sum(), inputs)

    return {name: both_ways(kernel) for name, kernel in kernels.items()}
