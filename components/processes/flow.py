"""Flow matching on straight paths, for any number of streams.

t = 0 is noise, t = 1 is data: `x_t = t x + (1-t) eps`, velocity `v = x - eps` (SiT, arXiv 2401.08740). With
x-prediction `v = (x_pred - x_t) / max(1-t, 0.05)` and the loss stays on v (JiT, arXiv 2511.13720). JiT's floor serves
sampling and loss; ours can be higher in the loss, so that nearly clean times may be drawn often without ruling it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..paths import FlowPath
from ..precision import full
from ..streams import Streams, StreamSpec, Times
from .process import Process, column
from .settings import FlowSettings


class Flow(Process):
    """The `flow` process."""

    def __init__(self, settings: FlowSettings, streams: Mapping[str, StreamSpec]) -> None:
        super().__init__(streams)
        self.settings = settings
        self._path = FlowPath({name: spec.lead for name, spec in streams.items()})

    @property
    def path(self) -> FlowPath:
        """Straight lines, each stream in its own time."""
        return self._path

    def _draw(self, batch: int, generator: torch.Generator) -> Tensor:
        time = self.settings.time
        if time.distribution == "uniform":
            return torch.rand(batch, generator=generator, device=generator.device)
        normal = torch.randn(batch, generator=generator, device=generator.device)
        return torch.sigmoid(normal * time.std + time.mean)

    def noise(self, clean: Streams, noise: Streams, times: Times) -> Streams:
        """Return `x_t = t x + (1-t) eps` for scaled clean streams. Gradient flows to the clean streams."""
        return {name: torch.lerp(noise[name], full(stream), column(times[name])) for name, stream in clean.items()}

    def targets(self, clean: Streams, noise: Streams) -> Streams:
        """Return what the network should output, detached where the stream stops gradients."""
        return {
            name: self._stopped(name, stream) - (noise[name] if self.streams[name].prediction == "v" else 0)
            for name, stream in clean.items()
        }

    def predictions(self, predicted: Streams, noisy: Streams, times: Times) -> Streams:
        """Turn what the network predicts into velocities."""
        return {
            name: full(output)
            if self.streams[name].prediction == "v"
            else (full(output) - noisy[name]) / _remaining(times[name], self.settings.min_noise)
            for name, output in predicted.items()
        }

    def losses(self, predicted: Streams, clean: Streams, noise: Streams, times: Times) -> Streams:
        """Return each stream's squared velocity error `(B,)`, a mean over its elements, not yet weighted.

        An x-prediction is compared with the clean stream and the difference divided by the remaining noise: the
        same error, written so that the live noisy stream is no part of it. Written as a difference of velocities,
        it would be a second way for the gradient to reach a coevolving projection.
        """
        targets = self.targets(clean, noise)
        floor = self.settings.loss_min_noise or self.settings.min_noise
        losses = {}
        for name, output in predicted.items():
            error = full(output) - targets[name]
            if self.streams[name].prediction == "x":
                error = error / _remaining(times[name], floor)
            losses[name] = error.square().flatten(1).mean(1)
        return losses

    def _stopped(self, name: str, stream: Tensor) -> Tensor:
        return full(stream.detach() if self.streams[name].stop_gradient else stream)


def _remaining(time: Tensor, floor: float) -> Tensor:
    return column((1 - time).clamp_min(floor))
