"""Batch normalisation without affine parameters, over all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn


class _SumOverRanks(torch.autograd.Function):
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


class SyncedBatchNorm(nn.Module):
    """Normalise each channel of `(B, d, h, w)` to zero mean and unit variance over batch, positions and processes.

    `torch.nn.SyncBatchNorm` needs CUDA; this one also runs on CPUs. Statistics are float32 and carry gradient.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float, momentum: float) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, stream: Tensor) -> Tensor:
        """Normalise by the batch in training, by the running statistics otherwise."""
        stream = stream.float()
        mean, variance = self._batch_statistics(stream) if self.training else (self.running_mean, self.running_var)
        return (stream - mean[:, None, None]) * (variance + self.eps).rsqrt()[:, None, None]

    def _batch_statistics(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        moments = torch.stack([stream.mean((0, 2, 3)), stream.square().mean((0, 2, 3))])
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            summed: Tensor = _SumOverRanks.apply(moments)
            moments = summed / distributed.get_world_size()
        mean, variance = moments[0], (moments[1] - moments[0].square()).clamp_min(0)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance, self.momentum)
        return mean, variance
