"""Generating: noise to images, one seed an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..components.guidance.guidance import Guidance
from ..components.predictor import Progress
from ..components.samplers.sampler import Sampler
from ..components.streams import Streams, StreamSpec
from .loader import pieces
from .model import JointModel
from .randomness import derived_generator
from .space import Space


@dataclass(frozen=True)
class ImageGenerator:
    """Draws images from a model. Image i of a seed has its own noise, whatever is drawn beside it."""

    model: JointModel
    space: Space
    guidance: Guidance
    sampler: Sampler
    num_classes: int
    device: torch.device
    precision: str = "32-true"

    def labels(self, indices: Sequence[int], only: int | None = None) -> Tensor:
        """Return balanced labels (image i has class i mod classes), or one class for all."""
        if self.num_classes == 0:
            return torch.zeros(len(indices), dtype=torch.long, device=self.device)
        chosen = [index % self.num_classes if only is None else only for index in indices]
        return torch.tensor(chosen, device=self.device)

    @torch.no_grad()
    def streams(self, indices: Sequence[int], labels: Tensor, seed: int, progress: Progress | None = None) -> Streams:
        """Return clean, unscaled streams for images of a seed."""
        noises = _ImageNoise(self.model.streams, indices, seed, self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            predict = self.guidance(self.model.predict, labels)
            streams = self.sampler.sample(predict, noises.draw(), noises.draw, progress)
        return self.model.process.unscaled(streams)

    def images(
        self, indices: Sequence[int], seed: int, *, only: int | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Return images `(len(indices), 3, H, W)` in [-1, 1] on the CPU."""
        return self.space.decode(self.streams(indices, self.labels(indices, only), seed, progress)).cpu()

    def batches(self, indices: range, batch_size: int, seed: int) -> Iterator[Tensor]:
        """Yield all images of a range, at most `batch_size` at a time."""
        for piece in pieces(indices, batch_size):
            yield self.images(piece, seed)


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
