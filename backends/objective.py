"""What the loss of a step is computed from: encoded images, and what is drawn for them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..components.streams import SEMANTIC
from .assembly import ImageModel
from .model import TrainingBatch
from .randomness import derived_generator
from .settings import TrainSettings
from .space import Encoded


class Objective:
    """Draws times, noise and what is left out, all from one generator a step and process."""

    def __init__(self, model: ImageModel, settings: TrainSettings) -> None:
        self.parts, self.settings = model, settings

    def generator(self, device: torch.device, step: int, process: int) -> torch.Generator:
        """Return the generator of a step in one of the processes; the parts of the step draw from it in their order."""
        return derived_generator(device, "step", self.settings.seed, step, process)

    def batch(self, encoded: Encoded, labels: Tensor, generator: torch.Generator) -> TrainingBatch:
        """Return what the model's loss is computed from, for encoded images and their labels `(B,)`."""
        process, count = self.parts.model.process, len(labels)
        labels = self._drop_labels(labels, generator)
        noise, times = process.sample_noise(count, generator), process.sample_times(count, generator)
        observation = self.parts.space.observe(encoded, generator)
        return TrainingBatch(observation, labels, noise, times, self._drop_semantics(count, generator))

    def _drop_labels(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        dropped = torch.rand(len(labels), generator=generator, device=labels.device) < self.settings.class_dropout
        return torch.where(dropped, self.parts.num_classes, labels)

    def _drop_semantics(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return which images have their semantic stream: each image's own draw."""
        if not self.settings.semantic_dropout or SEMANTIC not in self.parts.streams:
            return {}
        drawn = torch.rand(count, generator=generator, device=generator.device)
        return {SEMANTIC: (drawn >= self.settings.semantic_dropout).float()}
