"""Generating: noise to images, one seed an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..components.guidance.guidance import Guidance
from ..components.predictor import ConditionalPredictor, Progress
from ..components.samplers.sampler import Sampler
from ..components.streams import Streams, StreamSpec
from .errors import RunFailed, UserError
from .model import JointModel
from .randomness import derived_generator, derived_seed
from .space import Space

LabelChoice = Literal["balanced", "random"] | int
"""Image i has class i modulo their number; a class drawn for each image; or one class for all."""


@dataclass(frozen=True)
class ImageGenerator:
    """Draws images from a model. Image i of a seed has its own noise, whatever is drawn beside it.

    Attributes:
        predictor: what calls the model, if it is not called as it is.
    """

    model: JointModel
    space: Space
    guidance: Guidance
    sampler: Sampler
    num_classes: int
    device: torch.device
    precision: str = "32-true"
    predictor: ConditionalPredictor | None = None

    def labels(self, indices: Sequence[int], choice: LabelChoice, seed: int) -> Tensor:
        """Return a class for each image, by its index and the seed alone; zeros where there are no classes."""
        classes = max(1, self.num_classes)
        if choice == "random":
            chosen = [derived_seed("label", seed, index) % classes for index in indices]
        elif choice == "balanced":
            chosen = [index % classes for index in indices]
        else:
            chosen = [choice] * len(indices)
        return torch.tensor(chosen, device=self.device)

    @torch.no_grad()
    def streams(
        self,
        indices: Sequence[int],
        seed: int,
        labels: LabelChoice = "balanced",
        progress: Progress | None = None,
    ) -> Streams:
        """Return clean, unscaled streams for images of a seed.

        Raises:
            UserError: the weights of the run that was opened are not loaded yet.
        """
        if self.model.awaits_weights:
            raise UserError(
                "the weights of the run are not loaded yet, and images would be those of random ones: "
                "call load_newest() first"
            )
        noises = _ImageNoise(self.model.streams, indices, seed, self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            predict = self.guidance(self.predictor or self.model.predict, self.labels(indices, labels, seed))
            streams = self.sampler.sample(predict, noises.draw(), noises.draw, progress)
        return self.model.process.unscaled(streams)

    def images(
        self,
        indices: Sequence[int],
        seed: int,
        labels: LabelChoice = "balanced",
        progress: Progress | None = None,
    ) -> Tensor:
        """Return images `(len(indices), 3, H, W)` in [-1, 1] on the CPU.

        Raises:
            RunFailed: one of them is not finite.
        """
        return self.decoded(self.streams(indices, seed, labels, progress), indices)

    def decoded(self, streams: Streams, indices: Sequence[int]) -> Tensor:
        """Return the images of streams `(B, 3, H, W)` in [-1, 1] on the CPU.

        Raises:
            RunFailed: one of them is not finite.
        """
        images = self.space.decode(streams).cpu()
        finite = images.isfinite().flatten(1).all(1)
        if not bool(finite.all()):
            first = indices[int((~finite).nonzero()[0])]
            count = int((~finite).sum())
            raise RunFailed(
                f"image {first} is not finite, {count} of {len(indices)} are not: more sampler steps, less guidance or "
                "fabric.precision=32-true may help"
            )
        return images


class _ImageNoise:
    """Independent noise for each image: a generator seeded by (seed, index) goes on with every draw."""

    def __init__(self, streams: dict[str, StreamSpec], indices: Sequence[int], seed: int, device: torch.device) -> None:
        self.shapes = {name: spec.shape for name, spec in streams.items()}
        self.generators = [derived_generator("cpu", "image", seed, index) for index in indices]
        self.device = device

    def draw(self) -> Streams:
        drawn = {
            name: torch.stack([torch.randn(shape, generator=generator) for generator in self.generators])
            for name, shape in self.shapes.items()
        }
        return {name: noise.to(self.device) for name, noise in drawn.items()}
