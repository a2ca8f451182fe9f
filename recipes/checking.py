"""What a recipe takes, before anything is built: parameters, arithmetic, memory and disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..backends.caching.estimate import costs
from ..backends.caching.folder import stores_below
from ..backends.errors import UserError
from ..backends.faking import fake_buffers, fake_mode, parameters_faked
from ..backends.footprint import CacheCost, Footprint, Predictor, fake_device
from ..backends.hardware import wanted_accelerator
from ..backends.planned_device import PlannedDevice
from ..backends.settings import ReferenceSettings
from ..components.data.record import SourceRecord
from ..components.data.settings import ExpectedData
from ..components.denoisers.attention.settings import SDPASettings
from ..components.hub import local_files_only
from .assemble import assemble_around, build_encoder, build_projection, build_source, build_space
from .cache_stores import feature_forms, usable_forms
from .caching import cache_root, choose_feed
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
        word = "class" if self.num_classes == 1 else "classes"
        return f"{self.images:,} images, {self.num_classes} {word}"


def footprint(recipe: Recipe, planned: PlannedDevice | None = None) -> Footprint:
    """Return what a run of the recipe takes, from fake tensors: nothing is downloaded, no weight is there.

    Args:
        planned: the device of another machine; a recipe that asks for a GPU where there is none is planned for one.

    Raises:
        UserError: the data or a part cannot be used.
    """
    settings, source, mode = recipe.settings, stand_in_source(recipe), fake_mode()
    device, wanted = fake_device(settings.fabric), wanted_accelerator(settings.fabric)
    if planned is None and wanted != device.type:
        planned = PlannedDevice("GPU", wanted)
    parts: dict[str, Any] = {"tokenizer": settings.tokenizer.untrained()}
    if settings.encoder is not None:
        parts["encoder"] = settings.encoder.untrained()
    # What generated images are compared with takes next to nothing, and need not be here.
    scored = {"extractor": settings.evaluate.extractor.untrained(), "reference": ReferenceSettings()}
    parts["evaluate"] = settings.evaluate.model_copy(update=scored)
    if planned is not None and wanted == "cuda":
        # What a CPU would choose among may keep whole products, which no kernel of a GPU does.
        parts["denoiser"] = settings.denoiser.model_copy(update={"attention": SDPASettings()})
    with parameters_faked(mode, device):
        assembly = assemble_around(replace(recipe, settings=settings.model_copy(update=parts)), source)
    scorers = [assembly.score.extractor] if assembly.score is not None else []
    for module in (assembly.model, assembly.space, *scorers):
        fake_buffers(module, mode, device)
    projection, there = assembly.model.projection, cached_form(recipe)
    form = there or usable_forms(settings, projection)[0]
    stored = settings.cache.use == "required" or bool(there)
    predictor = Predictor(assembly, mode, stored=stored, held=settings.data.held(len(source)), device=planned)
    with mode:
        every = costs(source, assembly.space, feature_forms(settings, projection))
    return predictor.footprint(CacheCost(form, every[form].bytes, cache_root(recipe), bool(there)), RUNS)


def cached_form(recipe: Recipe) -> str:
    """Return the form of the cache that a run of the recipe would read, empty if it would read none.

    Whether the weights are those of the cache is only known from their digest: frozen networks are built, from files of
    this machine, where there is a cache of the data.
    """
    settings, root = recipe.settings, cache_root(recipe)
    if settings.cache.use == "never" or isinstance(settings.data, ExpectedData):
        return ""
    source = build_source(settings.data)
    data = SourceRecord.glance(source).identity()
    if all((folder.key() or {}).get("data") != data for folder in stores_below(root)):
        return ""
    try:
        with local_files_only():
            space = build_space(settings, build_encoder(settings))
            return choose_feed(recipe, source, space, build_projection(settings), None).form
    except UserError:
        return ""


def stand_in_source(recipe: Recipe) -> ShapeSource:
    """Return what stands for a recipe's data, which need not be there."""
    data = recipe.settings.data
    if isinstance(data, ExpectedData):
        return ShapeSource(data.labels, data.side, data.images, data.variants)
    found = build_source(data)
    return ShapeSource(found.num_classes, found.image_size, len(found), found.variants, found.class_names)
