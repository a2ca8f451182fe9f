"""What a recipe takes, before anything is built: parameters, arithmetic, memory and disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..backends.caching.estimate import costs
from ..backends.faking import fake_buffers, fake_mode, parameters_faked
from ..backends.footprint import CacheCost, Footprint, Predictor, fake_device
from ..backends.settings import ReferenceSettings
from ..components.data.settings import ExpectedData
from .assemble import assemble_around, build_source
from .caching import cache_folder, feature_forms
from .derive import feature_form
from .recipe import RUNS, Recipe


@dataclass
class ShapeSource:
    """Stands for a source: as many images of its size, all black."""

    num_classes: int
    image_size: int
    images: int
    variants: int = 1
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.images

    def item(self, index: int, seed: int) -> tuple[Tensor, int]:
        """Return a black image."""
        del index, seed
        return torch.zeros(3, self.image_size, self.image_size, dtype=torch.uint8), 0

    def key(self, index: int) -> str:
        """Return a name."""
        return str(index)

    def fingerprint(self) -> str:
        """Return nothing: no cache is made of it."""
        return ""

    def describe(self) -> str:
        """Return its size."""
        return f"{self.images:,} images, {self.num_classes} classes"


def footprint(recipe: Recipe) -> Footprint:
    """Return what a run of the recipe takes, from fake tensors: nothing is downloaded, no weight is there.

    Raises:
        UserError: the data or a part cannot be used.
    """
    settings, source, mode = recipe.settings, stand_in_source(recipe), fake_mode()
    device = fake_device(settings.fabric)
    parts: dict[str, Any] = {"tokenizer": settings.tokenizer.untrained()}
    if settings.encoder is not None:
        parts["encoder"] = settings.encoder.untrained()
    # What generated images are compared with takes next to nothing, and need not be here.
    scored = {"extractor": settings.evaluate.extractor.untrained(), "reference": ReferenceSettings()}
    parts["evaluate"] = settings.evaluate.model_copy(update=scored)
    with parameters_faked(mode, device):
        assembly = assemble_around(replace(recipe, settings=settings.model_copy(update=parts)), source)
    scorers = [assembly.score.extractor] if assembly.score is not None else []
    for module in (assembly.model, assembly.space, *scorers):
        fake_buffers(module, mode, device)
    folder, form = cache_folder(recipe), feature_form(settings)
    there = folder.key() is not None
    use = settings.cache.use
    stored = use == "required" or (use == "auto" and there)
    predictor = Predictor(assembly, mode, stored=stored, held=settings.data.held(len(source)))
    with mode:
        every = costs(source, assembly.space, feature_forms(settings, assembly.model.projection))
    return predictor.footprint(CacheCost(form, every[form].bytes, folder.path, there), RUNS)


def stand_in_source(recipe: Recipe) -> ShapeSource:
    """Return what stands for a recipe's data, which need not be there."""
    data = recipe.settings.data
    if isinstance(data, ExpectedData):
        return ShapeSource(data.labels, data.side, data.images, data.variants)
    found = build_source(data)
    return ShapeSource(found.num_classes, found.image_size, len(found), found.variants, found.class_names)
