"""Everything that a run trains, as one module."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..components.denoisers.denoiser import Denoiser
from ..components.processes.flow import Flow
from ..components.projections.projection import Projection
from ..components.streams import IMAGE, SEMANTIC, Streams, StreamSpec, Times
from ..components.velocity import Instants
from .pixel import Observation


class TrainingBatch:
    """What one loss is computed from.

    A plain class on purpose: Fabric rounds every float tensor that it finds in the arguments of a wrapped forward to
    the precision of the products. Rounded times and noise are another problem than the one to be solved, and Fabric
    does not look into plain objects.
    """

    def __init__(self, observation: Observation, labels: Tensor, noise: Streams, times: Times) -> None:
        self.observation, self.labels, self.noise, self.times = observation, labels, noise, times


class JointModel(nn.Module):
    """Denoiser and projection. The loss is the module's forward, so that every gradient passes one wrapper."""

    def __init__(
        self,
        denoiser: Denoiser,
        projection: Projection | None,
        process: Flow,
        streams: Mapping[str, StreamSpec],
        auto_weights: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.denoiser, self.projection, self.process = denoiser, projection, process
        self.streams, self.auto_weights = dict(streams), auto_weights

    def clean_streams(self, observation: Observation) -> Streams:
        """Return the clean streams; the semantic one carries gradient if its projection learns."""
        streams = {IMAGE: observation.image}
        if self.projection is not None and observation.features is not None:
            streams[SEMANTIC] = self.projection(observation.features)
        return streams

    def weight(self, name: str) -> float:
        """Return the factor of a stream's loss, with `auto` resolved by the stream's nominal std."""
        if name not in self.auto_weights:
            return self.streams[name].weight
        return 2 / (1 + self.nominal_std(name) ** 2)

    def nominal_std(self, name: str) -> float:
        """Return the std at which a stream is noised; a tokenizer's output counts as 1."""
        natural = float(self.projection.stream_std) if name == SEMANTIC and self.projection is not None else 1.0
        return natural * self.streams[name].scale

    def forward(self, batch: TrainingBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the weighted loss terms by name, and what else is worth logging; all scalars."""
        natural = self.clean_streams(batch.observation)
        clean = self.process.scaled(natural)
        noisy = self.process.noise(clean, batch.noise, batch.times)
        predicted = self._predict(noisy, batch.times, batch.labels)
        errors = self.process.losses(predicted, clean, batch.noise, batch.times)
        terms = {name: self.weight(name) * error.mean() for name, error in errors.items()}
        features = batch.observation.features
        if self.projection is not None and features is not None:
            terms |= self.projection.regularizers(features, natural[SEMANTIC])
        with torch.no_grad():
            log = {f"error/{name}": error.mean() for name, error in errors.items()}
            log |= {f"std/{name}": stream.float().std() for name, stream in clean.items()}
        return terms, log

    @torch.no_grad()
    def velocity(self, noisy: Streams, instants: Instants, labels: Tensor) -> Streams:
        """Return velocities for labels `(B,)` at one time a stream; float32."""
        times = {name: torch.full_like(labels, instants[name], dtype=torch.float32) for name in noisy}
        return self.process.velocity(self._predict(noisy, times, labels), noisy, times)

    def _predict(self, noisy: Streams, times: Times, labels: Tensor) -> Streams:
        """Call the network on streams of their natural scale: it never sees, or has to output, a scale's magnitude."""
        return self.process.scaled_predictions(self.denoiser(self.process.unscaled(noisy), times, labels))
