"""From a checked recipe to built parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..backends.assembly import Assembly
from ..backends.errors import UserError
from ..backends.model import JointModel
from ..backends.pixel import PixelSpace
from ..backends.run_folder import RunFolder, claim_folder
from ..backends.session import Session
from ..components.guidance.settings import NoGuidanceSettings
from ..components.registry import build
from . import derive
from .recipe import Recipe, from_values
from .schema import RecipeSettings


def assemble(recipe: Recipe) -> Assembly:
    """Build every part of a recipe. Initial weights are a function of the seed.

    Raises:
        UserError: the data cannot be used.
    """
    settings = recipe.settings
    streams = derive.stream_specs(settings)
    try:
        source = build(settings.data)
    except (OSError, ValueError) as error:
        raise UserError(f"data: {error}") from None
    device_type = "cuda" if settings.fabric.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.train.seed)
        projection = (
            build(settings.projection, features=settings.encoder.width())
            if settings.projection is not None and settings.encoder is not None
            else None
        )
        denoiser = build(settings.denoiser, streams=streams, num_classes=source.num_classes)
    process = build(settings.process, streams=streams)
    width = settings.evaluate.extractor.width()
    return Assembly(
        name=recipe.name,
        text=recipe.text,
        recipe=recipe.resolved(),
        source=source,
        space=PixelSpace(build(settings.tokenizer), build(settings.encoder) if settings.encoder is not None else None),
        model=JointModel(denoiser, projection, process, streams, derive.auto_weights(settings)),
        guidance=build(settings.guidance, null_label=source.num_classes),
        unguided=build(NoGuidanceSettings(), null_label=source.num_classes),
        sampler=build(settings.sampler),
        extractor=build(settings.evaluate.extractor),
        metrics={metric.name: build(metric, width=width) for metric in settings.evaluate.metrics},
        streams=streams,
        attention=_attention(settings, device_type),
        fit_images=settings.projection.fit_images if settings.projection is not None else 0,
        train=settings.train,
        evaluate=settings.evaluate,
        fabric=settings.fabric,
    )


def _attention(settings: RecipeSettings, device_type: str) -> str:
    try:
        described: str = build(settings.denoiser.attention).describe(device_type)
    except ValueError as error:
        raise UserError(f"denoiser.attention: {error}") from None
    return described


def open_session(recipe: Recipe, *, root: Path, name: str | None = None, quiet: bool = False) -> Session:
    """Return a session in the recipe's own folder below `root`.

    Raises:
        UserError: `name` belongs to a run of another recipe.
    """
    folder = claim_folder(root, recipe.name, recipe.resolved(), name)
    session = Session(assemble(recipe), folder, quiet=quiet)
    for warning in recipe.warnings:
        session.console.warn(warning)
    return session


def open_run(folder: Path, overrides: Sequence[str] = (), *, quiet: bool = False) -> Session:
    """Return a session on a run folder, with overrides of what does not change its weights (guidance, sampler, ...).

    Raises:
        UserError: not a run folder, or an override that does not fit.
    """
    run = RunFolder(folder)
    recipe = from_values(folder.parent.name, run.recipe(), overrides)
    return Session(assemble(recipe), run, quiet=quiet)
