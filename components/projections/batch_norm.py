"""Batch normalisation without affine parameters, over all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..across import mean_over_processes


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
        moments = mean_over_processes(torch.stack([stream.mean((0, 2, 3)), stream.square().mean((0, 2, 3))]))
        mean, variance = moments[0], (moments[1] - moments[0].square()).clamp_min(0)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance, self.momentum)
        return mean, variance
