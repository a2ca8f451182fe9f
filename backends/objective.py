"""What the loss of a step is computed from: encoded images, and what is drawn for them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..components.streams import SEMANTIC, Streams
from .assembly import ImageModel
from .model import TrainingBatch
from .randomness import derived_generator
from .settings import TrainSettings
from .space import Encoded

Draw = Callable[[int, torch.Generator], Streams]
"""Draws for a number of images; tensors `(B, ...)` by name."""


class StepDraws:
    """What is random in one step: drawn for its whole batch, from one generator and in one order.

    So an image's draws depend on seed, step and its place in the batch alone, however many devices and parts the batch
    is cut into. All processes draw everything; each keeps what belongs to its share.

    Args:
        size: images in the batch, over all processes.
        share: the places of this process's.
    """

    def __init__(self, generator: torch.Generator, size: int, share: range) -> None:
        self.generator, self.size, self.share = generator, size, share
        self._drawn: dict[str, Streams] = {}

    def of(self, places: range, what: str, draw: Draw) -> Streams:
        """Return what images at some places drew; who asks first draws, and always asks in the same order."""
        if what not in self._drawn:
            self._drawn[what] = {name: self._own(values) for name, values in draw(self.size, self.generator).items()}
        first = places.start - self.share.start
        return {name: values[first : first + len(places)] for name, values in self._drawn[what].items()}

    def _own(self, values: Tensor) -> Tensor:
        # A copy, for a view would keep what was drawn for others.
        everything = len(self.share) == self.size
        return values if everything else values[self.share.start : self.share.stop].clone()


class Objective:
    """Draws times, noise and what is left out."""

    def __init__(self, model: ImageModel, settings: TrainSettings) -> None:
        self.parts, self.settings = model, settings

    def draws(self, device: torch.device, step: int, size: int, share: range) -> StepDraws:
        """Return what is drawn in a step, for a batch of `size` images of which `share` are this process's."""
        # The zero was a process's number once: runs of one process keep their bits.
        return StepDraws(derived_generator(device, "step", self.settings.seed, step, 0), size, share)

    def batch(self, encoded: Encoded, labels: Tensor, draws: StepDraws, places: range) -> TrainingBatch:
        """Return what the model's loss is computed from, for encoded images and their labels `(B,)`.

        Args:
            places: where these images are in the step's batch.
        """
        process = self.parts.model.process
        labels = self._drop_labels(labels, draws, places)
        noise = draws.of(places, "noise", process.sample_noise)
        times = draws.of(places, "times", process.sample_times)

        def normal(shape: torch.Size) -> Tensor:
            return draws.of(places, "posterior", lambda size, generator: _normal(size, shape[1:], generator))[""]

        observation = self.parts.space.observe(encoded, normal)
        shown, live = self._drop_semantics(draws, places), self._live_semantics(draws, places)
        return TrainingBatch(observation, labels, noise, times, shown=shown, live=live)

    def _drop_labels(self, labels: Tensor, draws: StepDraws, places: range) -> Tensor:
        dropped = draws.of(places, "labels", _uniform)[""] < self.settings.class_dropout
        return torch.where(dropped, self.parts.num_classes, labels)

    def _drop_semantics(self, draws: StepDraws, places: range) -> dict[str, Tensor]:
        """Return which images have their semantic stream: each image's own draw."""
        if not self.settings.semantic_dropout or SEMANTIC not in self.parts.streams:
            return {}
        drawn = draws.of(places, "semantics", _uniform)[""]
        return {SEMANTIC: (drawn >= self.settings.semantic_dropout).float()}

    def _live_semantics(self, draws: StepDraws, places: range) -> dict[str, Tensor]:
        """Return through which images the projection learns, where it does not through all: each image's own draw."""
        share = self.parts.model.projection.live_share if self.parts.model.projection is not None else None
        if share is None:
            return {}
        return {SEMANTIC: (draws.of(places, "live", _uniform)[""] < share).float()}


def _uniform(size: int, generator: torch.Generator) -> Streams:
    return {"": torch.rand(size, generator=generator, device=generator.device)}


def _normal(size: int, shape: torch.Size, generator: torch.Generator) -> Streams:
    return {"": torch.randn(size, *shape, generator=generator, device=generator.device)}
