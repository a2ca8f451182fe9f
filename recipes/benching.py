"""`latsem bench`: from recipes to what is timed of them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from lightning_fabric import Fabric

from ..backends.assembly import Assembly
from ..backends.benching.bench import run_bench
from ..backends.benching.results import Report
from ..backends.benching.stand_in import StandInFeed
from ..backends.benching.subjects import Subject, attention, encoding, fit, reading, sampling, training_step
from ..backends.blocks import settle
from ..backends.errors import UserError
from ..backends.hardware import resolve_precision
from ..backends.launching import launch
from ..backends.loader import batch_plan
from ..components.denoisers.attention.kernel import AttentionKernel, AttentionShape
from ..components.denoisers.transformer import StreamTransformer
from ..components.guidance.settings import NoGuidanceSettings
from ..components.registry import available, create
from ..components.streams import SEMANTIC
from .assemble import assemble, assemble_around
from .cache_stores import feature_forms, usable_forms
from .checking import cached_form, stand_in_source
from .recipe import Recipe, load

What = Literal["train", "sample", "data", "encode", "attention"]
WHATS = get_args(What)
IMAGE_ONLY = "image_only"


@dataclass(frozen=True)
class Bench:
    """What is to be timed, and how.

    Attributes:
        images: drawn or encoded at once; empty: a micro-batch.
    """

    what: What
    rounds: int
    warmup: int
    images: int | None = None


def bench(recipe: str, changes: Sequence[str], how: Bench, against: str | None = None) -> Report:
    """Time something of a recipe, and of another in turn with it, on one device.

    Args:
        against: another recipe with changes ("pixel_jit denoiser.depth=4"), changes of the first ("guidance=none"), or
            `image_only`: the first without its semantic stream.

    Raises:
        UserError: a recipe with mistakes, or nothing to time in it.
    """
    if how.what == "attention" and against is not None:
        raise UserError("--against: attention is timed with every kernel that runs here already")
    recipes = {recipe if not changes else " ".join([recipe, *changes]): _load(recipe, changes, how)}
    if against is not None:
        recipes[_told_apart(against, recipes)] = _other(against, recipe, changes, recipes, how)
    subjects = [subject for name, each in recipes.items() for subject in subjects_of(name, each, how)]
    return run_subjects(how.what, subjects, next(iter(recipes.values())), how)


def run_subjects(what: str, subjects: Sequence[Subject], recipe: Recipe, how: Bench) -> Report:
    """Time subjects in turn, on the device and at the precision of a recipe."""
    device = _fabric(recipe).device
    precision = resolve_precision(recipe.settings.fabric, device.type)
    return run_bench(what, subjects, device, precision, rounds=how.rounds, warmup=how.warmup)


def load_subjects(recipe: str, changes: Sequence[str], how: Bench) -> list[Subject]:
    """Return what is timed of a recipe, to be timed beside something else.

    Raises:
        UserError: a recipe with mistakes, or nothing to time in it.
    """
    return list(subjects_of(recipe, _load(recipe, changes, how), how))


def load_bare(recipe: str, changes: Sequence[str]) -> Recipe:
    """Return a recipe whose data need not be there.

    Raises:
        UserError: a recipe with mistakes.
    """
    return load(recipe, changes, data="expected")


def _load(recipe: str, changes: Sequence[str], how: Bench) -> Recipe:
    return load(recipe, changes, data="here") if how.what == "data" else load_bare(recipe, changes)


def _told_apart(name: str, names: Mapping[str, Any]) -> str:
    return f"{name} (again)" if name in names else name


def _other(against: str, recipe: str, changes: Sequence[str], known: Mapping[str, Recipe], how: Bench) -> Recipe:
    if against == IMAGE_ONLY:
        return image_only(next(iter(known.values())))
    words = shlex.split(against)
    if "=" in words[0]:
        return _load(recipe, [*changes, *words], how)
    return _load(words[0], words[1:], how)


def image_only(recipe: Recipe) -> Recipe:
    """Return a recipe without its semantic stream, and without the guidance that needs it."""
    settings = recipe.settings
    changed: dict[str, Any] = {
        "encoder": None,
        "projection": None,
        "streams": {name: stream for name, stream in settings.streams.items() if name != SEMANTIC},
        "train": settings.train.model_copy(update={"semantic_dropout": 0.0}),
    }
    if settings.guidance.name not in ("none", "cfg"):
        changed["guidance"] = NoGuidanceSettings()
    return replace(recipe, settings=settings.model_copy(update=changed))


def subjects_of(name: str, recipe: Recipe, how: Bench) -> Iterator[Subject]:
    """Yield what is timed of a recipe, under a name.

    Raises:
        UserError: there is nothing to time in it.
    """
    make: Mapping[What, Callable[[str, Recipe, Bench], Iterator[Subject]]] = {
        "train": _train,
        "sample": _sample,
        "data": _data,
        "encode": _encode,
        "attention": _attention,
    }
    return make[how.what](name, recipe, how)


def _fabric(recipe: Recipe) -> Fabric:
    one = recipe.settings.fabric.model_copy(update={"devices": 1, "num_nodes": 1, "strategy": "auto"})
    return launch(one)


def stand_in(recipe: Recipe) -> tuple[Fabric, Assembly, StandInFeed]:
    """Return a recipe's parts with random weights on the device, and batches in the place of its data."""
    settings = recipe.settings
    parts: dict[str, Any] = {"tokenizer": settings.tokenizer.untrained()}
    if settings.encoder is not None:
        parts["encoder"] = settings.encoder.untrained()
    bare = replace(recipe, settings=settings.model_copy(update=parts))
    source, fabric = stand_in_source(recipe), _fabric(recipe)
    assembly = assemble_around(bare, source, scored=False)
    assembly.space.to(fabric.device)
    assembly.model.to(fabric.device)
    settle(assembly.model.denoiser, fabric.device, resolve_precision(settings.fabric, fabric.device.type))
    fit(assembly)
    projection = assembly.model.projection
    form = feature_forms(settings, projection)[usable_forms(settings, projection)[0]]
    if form is not None:
        form.fit([torch.randn(4, settings.encoder.width(), 4, 4)] if settings.encoder is not None else [])
    stored = settings.cache.use == "required" or bool(cached_form(recipe))
    return fabric, assembly, StandInFeed(source, assembly.space, form, stored=stored)


def _train(name: str, recipe: Recipe, how: Bench) -> Iterator[Subject]:
    del how
    fabric, assembly, feed = stand_in(recipe)
    if not feed.stored:
        assembly.space.accelerate()
    plan = batch_plan(assembly.train.batch_size, assembly.train.micro_batch, 1)
    yield training_step(name, fabric, assembly, plan, feed)


def _sample(name: str, recipe: Recipe, how: Bench) -> Iterator[Subject]:
    fabric, assembly, _ = stand_in(recipe)
    precision = resolve_precision(recipe.settings.fabric, fabric.device.type)
    yield sampling(name, assembly, fabric.device, precision, how.images or assembly.train.picture_images or 64)


def _data(name: str, recipe: Recipe, how: Bench) -> Iterator[Subject]:
    del how
    assembly = assemble(recipe, scored=False)
    plan = batch_plan(assembly.train.batch_size, assembly.train.micro_batch, 1)
    yield reading(name, _fabric(recipe), assembly, plan)


def _encode(name: str, recipe: Recipe, how: Bench) -> Iterator[Subject]:
    fabric, assembly, _ = stand_in(recipe)
    if not list(assembly.space.parameters()):
        raise UserError(f"{name}: there is nothing to encode: no autoencoder, no encoder")
    assembly.space.accelerate()
    plan = batch_plan(assembly.train.batch_size, assembly.train.micro_batch, 1)
    yield encoding(name, assembly, fabric.device, how.images or plan.micro_batch)


def _attention(name: str, recipe: Recipe, how: Bench) -> Iterator[Subject]:
    fabric, assembly, _ = stand_in(recipe)
    denoiser = assembly.model.denoiser
    if not isinstance(denoiser, StreamTransformer):
        raise UserError(f"{name}: its denoiser is no transformer of this kind")
    bf16 = resolve_precision(recipe.settings.fabric, fabric.device.type) == "bf16-mixed"
    shape = denoiser.attention_shape(fabric.device, torch.bfloat16 if bf16 else torch.float32)
    plan = batch_plan(assembly.train.batch_size, assembly.train.micro_batch, 1)
    yield from attention(dict(_kernels(shape)), shape, how.images or plan.micro_batch)


def _kernels(shape: AttentionShape) -> Iterator[tuple[str, AttentionKernel]]:
    """Yield the kernels that run on a device; the reference is one of them."""
    for name in sorted(set(available("attention")) - {"auto"}):
        kernel: AttentionKernel = create("attention", name)
        try:
            kernel.settle(shape)
            kernel.describe(shape.device.type)
        except ValueError:
            continue
        yield name, kernel
