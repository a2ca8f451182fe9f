"""Flow matching on straight paths, for any number of streams.

t = 0 is noise, t = 1 is data: `x_t = t x + (1-t) eps`, velocity `v = x - eps` (SiT, arXiv 2401.08740). With
x-prediction `v = (x_pred - x_t) / max(1-t, 0.05)` and the loss stays on v (JiT, arXiv 2511.13720). JiT's floor serves
sampling and loss; ours can be higher in the loss, so that nearly clean times may be drawn often without ruling it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..streams import Streams, StreamSpec, Times
from .settings import FlowSettings


class Flow:
    """The `flow` process. All tensors are `(B, C, H, W)` by stream name, times `(B,)`."""

    def __init__(self, settings: FlowSettings, streams: Mapping[str, StreamSpec]) -> None:
        self.settings = settings
        self.streams = dict(streams)
        self.max_lead = max(spec.lead for spec in streams.values())

    def clock(self, instant: Tensor) -> Times:
        """Return each stream's time at an instant of the common clock in [0, 1].

        A stream with lead L reaches data early by L and one without starts late, over a path of 1 + max lead
        (SFD, arXiv 2512.04926). Without leads every stream's time is the clock itself.
        """
        now = instant * (1 + self.max_lead)
        return {
            name: instant if self.max_lead == 0 else (now - (self.max_lead - spec.lead)).clamp(0, 1)
            for name, spec in self.streams.items()
        }

    def sample_times(self, batch: int, generator: torch.Generator) -> Times:
        """Draw training times `(batch,)` for every stream: one draw for all, and one for each with `own_time`."""
        shared = self.clock(self._draw(batch, generator))
        own = {name: self._draw(batch, generator) for name, spec in self.streams.items() if spec.own_time}
        return shared | own

    def _draw(self, batch: int, generator: torch.Generator) -> Tensor:
        time = self.settings.time
        if time.distribution == "uniform":
            return torch.rand(batch, generator=generator, device=generator.device)
        normal = torch.randn(batch, generator=generator, device=generator.device)
        return torch.sigmoid(normal * time.std + time.mean)

    def sample_noise(self, batch: int, generator: torch.Generator) -> Streams:
        """Draw independent standard normal noise for every stream."""
        return {
            name: torch.randn(batch, *spec.shape, generator=generator, device=generator.device)
            for name, spec in self.streams.items()
        }

    def scaled(self, streams: Streams) -> Streams:
        """Bring clean streams to the scale at which they are noised."""
        return {name: self.streams[name].scale * stream for name, stream in streams.items()}

    def unscaled(self, streams: Streams) -> Streams:
        """Undo `scaled`."""
        return {name: stream / self.streams[name].scale for name, stream in streams.items()}

    def scaled_predictions(self, outputs: Streams) -> Streams:
        """Bring the network's predictions of clean streams to their scale; velocities are what they are."""
        return {
            name: output * self.streams[name].scale if self.streams[name].prediction == "x" else output
            for name, output in outputs.items()
        }

    def noise(self, clean: Streams, noise: Streams, times: Times) -> Streams:
        """Return `x_t = t x + (1-t) eps` for scaled clean streams. Gradient flows to the clean streams."""
        return {name: torch.lerp(noise[name], stream.float(), _column(times[name])) for name, stream in clean.items()}

    def targets(self, clean: Streams, noise: Streams) -> Streams:
        """Return what the network should output, detached where the stream stops gradients."""
        return {
            name: self._stopped(name, stream) - (noise[name] if self.streams[name].prediction == "v" else 0)
            for name, stream in clean.items()
        }

    def velocity(self, predicted: Streams, noisy: Streams, times: Times) -> Streams:
        """Turn what the network predicts into velocities."""
        return {
            name: output.float()
            if self.streams[name].prediction == "v"
            else (output.float() - noisy[name]) / _remaining(times[name], self.settings.min_noise)
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
            error = output.float() - targets[name]
            if self.streams[name].prediction == "x":
                error = error / _remaining(times[name], floor)
            losses[name] = error.square().flatten(1).mean(1)
        return losses

    def _stopped(self, name: str, stream: Tensor) -> Tensor:
        return stream.detach().float() if self.streams[name].stop_gradient else stream.float()


def _remaining(time: Tensor, floor: float) -> Tensor:
    return _column((1 - time).clamp_min(floor))


def _column(time: Tensor) -> Tensor:
    return time[:, None, None, None]
