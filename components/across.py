"""Means over the batch of a step where several processes each have a share of it, with gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, distributed

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Compute in this process what the others do not compute at the same time: they are not waited for."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes, which have equal shares of the batch; it carries gradient."""
    if _ALONE.get() or not distributed.is_available() or not distributed.is_initialized():
        return value
    count = distributed.get_world_size()
    if count == 1:
        return value
    summed: Tensor = _SumOverProcesses.apply(value)
    return summed / count


class _SumOverProcesses(torch.autograd.Function):
    """Sum a tensor over all processes; the gradient of a sum is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        del ctx
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total
