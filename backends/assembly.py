"""The built parts of one recipe, ready for the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..components.data.source import Source
from ..components.guidance.guidance import Guidance
from ..components.samplers.sampler import Sampler
from ..components.streams import StreamSpec
from .compiling import Choice, choose, compile_blocks
from .cuda_graphs import GraphedPredictor, graphs
from .evaluation.score_parts import ScoreParts
from .generation import ImageGenerator
from .loader import Feed
from .model import JointModel
from .settings import FabricSettings, TrainSettings
from .space import Space


@dataclass(frozen=True)
class ImageModel:
    """What makes images: nothing of it needs the data that it was trained on.

    Attributes:
        recipe: the recipe as resolved, JSON values only.
        unguided: the guidance of a score that is to judge the bare model.
        couples_images: whether the sampler makes an image depend on those it is drawn with.
        num_classes: number of classes of the data, 0 if it is unlabelled.
        operations: floating-point operations of the whole training, roughly.
    """

    recipe: dict[str, Any]
    space: Space
    model: JointModel
    guidance: Guidance
    unguided: Guidance
    sampler: Sampler
    couples_images: bool
    streams: Mapping[str, StreamSpec]
    num_classes: int
    fabric: FabricSettings
    operations: float

    def compiling(self, device: torch.device) -> Choice:
        """Return whether the network's blocks are compiled for a device."""
        return choose(self.fabric, device.type, self.operations)

    def generator(
        self, device: torch.device, precision: str, *, model: JointModel | None = None, guided: bool = True
    ) -> ImageGenerator:
        """Return a generator for the model, or another of its kind, with the recipe's guidance or none."""
        model = (model or self.model).eval()
        if self.compiling(device).on:
            compile_blocks(model.get_submodule("denoiser"), dynamic=None)
        return ImageGenerator(
            model=model,
            space=self.space,
            guidance=self.guidance if guided else self.unguided,
            sampler=self.sampler,
            num_classes=self.num_classes,
            device=device,
            precision=precision,
            predictor=GraphedPredictor(model) if graphs(self.fabric, device) else None,
        )


@dataclass(frozen=True)
class Assembly(ImageModel):
    """Everything a run is made of.

    Attributes:
        name: the recipe's name.
        text: the recipe as it was given, in one file.
        plugin_texts: the sources of its plug-ins, by the paths that they are kept under in the run folder.
        overrides: changes to it that were typed.
        feed: where training batches come from.
        feed_name: `images`, or the stores of a cache.
        feed_note: why images are encoded on line although there are caches; empty if there is nothing to say.
        score: what scores are made with, None where none is asked for.
        fit_images: images from which the projection's statistics are taken.
        measure_images: images from which the tokenizer's are.
    """

    name: str
    text: str
    plugin_texts: Mapping[str, str]
    overrides: tuple[str, ...]
    source: Source
    feed: Feed
    feed_name: str
    feed_note: str
    score: ScoreParts | None
    fit_images: int
    measure_images: int
    train: TrainSettings
