"""Everything that a run trains, as one module."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..components.denoisers.denoiser import Denoiser
from ..components.predictor import Instants
from ..components.processes.process import Process, column
from ..components.projections.projection import Projection
from ..components.streams import IMAGE, SEMANTIC, Streams, StreamSpec, Times, stream_of, unseen_of
from .space import Observation


class TrainingBatch:
    """What one loss is computed from.

    A plain class on purpose: Fabric rounds every float tensor that it finds in the arguments of a wrapped forward to
    the precision of the products. Rounded times and noise are another problem than the one to be solved, and Fabric
    does not look into plain objects.

    Attributes:
        shown: for streams that some images go without, which images have them `(B,)`, 1 or 0.
        live: for streams that carry gradient for some images alone, which images do `(B,)`, 1 or 0.
    """

    def __init__(
        self,
        observation: Observation,
        labels: Tensor,
        noise: Streams,
        times: Times,
        *,
        shown: Mapping[str, Tensor] | None = None,
        live: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.observation, self.labels, self.noise, self.times = observation, labels, noise, times
        self.shown, self.live = dict(shown or {}), dict(live or {})


class JointModel(nn.Module):
    """Denoiser and projection. The loss is the module's forward, so that every gradient passes one wrapper.

    Attributes:
        normalization: what the tokenizer measured on the data; it is here because it belongs to the weights.
        awaits_weights: whether it is a trained network's, whose weights have not been loaded yet.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        projection: Projection | None,
        process: Process,
        streams: Mapping[str, StreamSpec],
        *,
        auto_weights: frozenset[str] = frozenset(),
        normalization: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.denoiser, self.projection, self.process = denoiser, projection, process
        self.streams, self.auto_weights = dict(streams), auto_weights
        self.normalization = normalization
        self.awaits_weights = False
        self.register_load_state_dict_post_hook(_has_weights)

    def clean_streams(self, observation: Observation) -> Streams:
        """Return the clean streams; the semantic one carries gradient if its projection learns."""
        streams = {IMAGE: observation.image}
        if observation.semantic is not None:
            streams[SEMANTIC] = self._on_grid(observation.semantic)
        elif self.projection is not None and observation.features is not None:
            streams[SEMANTIC] = self.semantic_stream(observation.features)
        return streams

    def semantic_stream(self, features: Tensor) -> Tensor:
        """Return the clean semantic stream of feature grids `(B, D, h, w)`, of a model that has a projection."""
        assert self.projection is not None
        return self._on_grid(self.projection(features))

    def _on_grid(self, semantic: Tensor) -> Tensor:
        """Bring the semantic stream from the grid of the features to its own, bilinearly as ReDi does."""
        grid = self.streams[SEMANTIC].grid
        if semantic.shape[-1] == grid:
            return semantic
        return F.interpolate(semantic, (grid, grid), mode="bilinear", align_corners=False)

    def weight(self, name: str) -> float:
        """Return the factor of a stream's loss, with `auto` resolved by the stream's nominal std."""
        return float(self._weight(name))

    def nominal_std(self, name: str) -> float:
        """Return the std at which a stream is noised; a tokenizer's output counts as 1."""
        return float(self._nominal_std(name))

    def _weight(self, name: str) -> float | Tensor:
        # Where it depends on the projection it stays on the device: reading it would wait for all that is queued.
        if name not in self.auto_weights:
            return self.streams[name].weight
        return 2 / (1 + self._nominal_std(name) ** 2)

    def _nominal_std(self, name: str) -> float | Tensor:
        natural = self.projection.stream_std if name == SEMANTIC and self.projection is not None else 1.0
        return natural * self.streams[name].scale

    def forward(self, batch: TrainingBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the weighted loss terms by name, and what else is worth logging; all scalars.

        An image that goes without a stream sees zeros in its place and has no loss on it. Where a stream carries
        gradient for some images alone, those have no loss on it, and that of the others counts for all. Terms are
        means over all images of the batch.
        """
        natural = self.clean_streams(batch.observation)
        clean = self.process.scaled(natural)
        noisy = self.process.noise(_carrying_gradient(clean, batch.live), batch.noise, batch.times)
        noisy |= {name: noisy[name] * column(shown) for name, shown in batch.shown.items()}
        predicted = self._outputs(noisy, batch.times, batch.labels)
        errors = self.process.losses(predicted, clean, batch.noise, batch.times)
        errors = {key: error * batch.shown.get(stream_of(key), 1) for key, error in errors.items()}
        counted = {key: error * self._counts(stream_of(key), batch.live) for key, error in errors.items()}
        terms = {key: self._weight(stream_of(key)) * error.mean() for key, error in counted.items()}
        features = batch.observation.features
        if self.projection is not None and features is not None:
            terms |= self.projection.regularizers(features, natural[SEMANTIC])
        with torch.no_grad():
            log = {f"error/{key}": error.mean() for key, error in errors.items()}
            log |= {f"std/{name}": stream.float().std() for name, stream in clean.items()}
        return terms, log

    def _counts(self, name: str, live: Mapping[str, Tensor]) -> Tensor | float:
        """Return how much each image's loss on a stream counts: those that carry gradient none, the others for all."""
        if name not in live or self.projection is None or self.projection.live_share is None:
            return 1.0
        return (1 - live[name]) / (1 - self.projection.live_share)

    @torch.no_grad()
    def predict(self, noisy: Streams, instants: Instants, labels: Tensor) -> Streams:
        """Return what a sampler follows, for labels `(B,)` at one time a stream; float32."""
        return self.predict_at(noisy, self.times(instants, labels), labels)

    @torch.no_grad()
    def predict_at(self, noisy: Streams, times: Times, labels: Tensor) -> Streams:
        """Return the same for times `(B,)` by stream."""
        shown = {name: noisy[name] for name in self.streams}
        whole = {name: noisy.get(unseen_of(name), stream) for name, stream in shown.items()}
        return self.process.predictions(self._outputs(shown, times, labels), whole, times)

    def times(self, instants: Instants, labels: Tensor) -> dict[str, Tensor]:
        """Return one time a stream as times `(B,)` of all images."""
        return {name: torch.full_like(labels, instants[name], dtype=torch.float32) for name in self.streams}

    def _outputs(self, noisy: Streams, times: Times, labels: Tensor) -> Streams:
        """Call the network on streams of their natural scale: it never sees, or has to output, a scale's magnitude."""
        outputs = self.denoiser(self.process.unscaled(noisy), self.process.conditions(times), labels)
        return self.process.scaled_predictions(outputs)


def _carrying_gradient(streams: Streams, live: Mapping[str, Tensor]) -> Streams:
    """Return streams `(B, C, H, W)` that carry gradient for the images `(B,)` whose entry is not 0."""
    return streams | {
        name: torch.where(column(mask) > 0, streams[name], streams[name].detach()) for name, mask in live.items()
    }


def _has_weights(model: nn.Module, keys: object) -> None:
    del keys
    model.awaits_weights = False  # type: ignore[assignment]
