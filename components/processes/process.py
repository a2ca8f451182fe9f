"""What every process is: streams to noisy streams, predictions to losses, predictions to what a sampler follows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from ..paths import Path
from ..streams import Streams, StreamSpec, Times


class Process(ABC):
    """All tensors are `(B, C, H, W)` by stream name, times `(B,)` in [0, 1], 1 = data."""

    def __init__(self, streams: Mapping[str, StreamSpec]) -> None:
        self.streams = dict(streams)

    @property
    @abstractmethod
    def path(self) -> Path:
        """The way that samplers walk."""

    @abstractmethod
    def noise(self, clean: Streams, noise: Streams, times: Times) -> Streams:
        """Return noisy streams of scaled clean ones. Gradient flows to the clean streams."""

    @abstractmethod
    def losses(self, predicted: Streams, clean: Streams, noise: Streams, times: Times) -> Streams:
        """Return each stream's error `(B,)`, a mean over its elements, not yet weighted.

        A learned variance has an error of its own under `variance_of(name)`.
        """

    @abstractmethod
    def predictions(self, predicted: Streams, noisy: Streams, times: Times) -> Streams:
        """Turn what the network outputs into what a sampler follows."""

    @abstractmethod
    def _draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """Draw times `(batch,)`."""

    def conditions(self, times: Times) -> Times:
        """Return times in the unit in which the network is told them."""
        return times

    def sample_times(self, batch: int, generator: torch.Generator) -> Times:
        """Draw training times `(batch,)` for every stream: one draw for all, and one for each with `own_time`."""
        shared = self.path.times(self._draw(batch, generator))
        own = {name: self._draw(batch, generator) for name, spec in self.streams.items() if spec.own_time}
        return shared | own

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
        """Bring the network's predictions of clean streams to their scale; velocities and noises are what they are."""
        return {
            name: output * self.streams[name].scale if self.streams[name].prediction == "x" else output
            for name, output in outputs.items()
        }


def column(values: Tensor) -> Tensor:
    """Return `(B,)` as `(B, 1, 1, 1)`."""
    return values[:, None, None, None]
