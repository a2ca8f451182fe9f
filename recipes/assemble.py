"""From a checked recipe to built parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..backends.assembly import Assembly, ImageModel
from ..backends.compiling import training_operations
from ..backends.console import RunConsole
from ..backends.errors import UserError
from ..backends.hardware import wanted_accelerator
from ..backends.latent import LatentSpace
from ..backends.loader import ImageFeed
from ..backends.model import JointModel
from ..backends.pixel import PixelSpace
from ..backends.run_folder import RunFolder, claim_folder
from ..backends.sampling import TrainedRun
from ..backends.session import Session
from ..backends.space import Space
from ..components.data.settings import DataSettings
from ..components.data.source import Source
from ..components.encoders.encoder import Encoder
from ..components.guidance.settings import NoGuidanceSettings
from ..components.projections.projection import Projection
from ..components.registry import build
from ..components.seeded import seeded
from . import derive
from .caching import ONLINE, choose_feed
from .judging import score_parts
from .plugins import stored_names
from .recipe import Recipe, completed, of_run
from .schema import RecipeSettings

SPACES: Mapping[str, type[Space]] = {"pixel": PixelSpace, "latent": LatentSpace}


def assemble(recipe: Recipe, *, begun_with: str | None = None, scored: bool = True) -> Assembly:
    """Build every part of a recipe. Initial weights are a function of the seed.

    Args:
        begun_with: the feed that a run which goes on began with.
        scored: whether what scores are made with is built, if the recipe asks for scores.

    Raises:
        UserError: the data, a model or a cache cannot be used.
    """
    settings = recipe.settings
    assembly = assemble_around(recipe, build_source(settings.data), scored=scored)
    chosen = choose_feed(recipe, assembly.source, assembly.space, assembly.model.projection, begun_with)
    return replace(assembly, feed=chosen.feed, feed_name=chosen.name, feed_note=chosen.note)


def assemble_around(recipe: Recipe, source: Source, *, scored: bool = True) -> Assembly:
    """Build every part of a recipe but the data, to be encoded on line.

    Raises:
        UserError: a model cannot be used.
    """
    settings = recipe.settings
    _check_attention(settings, wanted_accelerator(settings.fabric))
    parts = image_model(recipe, source.num_classes, build_encoder(settings))
    return Assembly(
        **vars(parts),
        name=recipe.name,
        text=recipe.text,
        plugin_texts={name: plugin.text for name, plugin in stored_names(recipe.plugins).items()},
        overrides=recipe.overrides,
        source=source,
        feed=ImageFeed(source, parts.space),
        feed_name=ONLINE,
        feed_note="",
        score=score_parts(settings, source) if scored and settings.evaluate.samples else None,
        fit_images=settings.projection.fit_images if settings.projection is not None else 0,
        measure_images=settings.tokenizer.measured_on,
        train=settings.train,
    )


def build_source(settings: DataSettings) -> Source:
    """Build the source of images.

    Raises:
        UserError: it cannot be read, or is not what the recipe expects.
    """
    try:
        source: Source = build(settings)
    except (OSError, ValueError) as error:
        raise UserError(f"data: {error}") from None
    found = {"images": len(source), "classes": source.num_classes}
    expected = {"images": settings.expect_images, "classes": settings.expect_classes}
    wrong = [what for what, number in expected.items() if number is not None and number != found[what]]
    if wrong:
        there = source.describe()
        raise UserError(*[f"data.expect_{what}: {expected[what]:,} {what} expected, found {there}" for what in wrong])
    return source


def image_model(recipe: Recipe, num_classes: int, encoder: Encoder | None = None) -> ImageModel:
    """Build what makes images. Initial weights are a function of the seed.

    Raises:
        UserError: the tokenizer cannot be loaded.
    """
    settings = recipe.settings
    streams = derive.stream_specs(settings)
    space = build_space(settings, encoder)
    with seeded(settings.train.seed):
        projection = build_projection(settings)
        denoiser = build(settings.denoiser, streams=streams, num_classes=num_classes)
    process = build(settings.process, streams=streams)
    model = JointModel(
        denoiser,
        projection,
        process,
        streams,
        auto_weights=derive.auto_weights(settings),
        normalization=space.tokenizer.normalization,
    )
    guidance: dict[str, Any] = {"null_label": num_classes}
    tokens, images = max(spec.tokens for spec in streams.values()), settings.train.steps * settings.train.batch_size
    return ImageModel(
        recipe=recipe.resolved(),
        space=space,
        model=model,
        guidance=build(settings.guidance, **guidance),
        unguided=build(NoGuidanceSettings(), **guidance),
        sampler=build(settings.sampler, path=process.path),
        couples_images=settings.sampler.couples_images,
        streams=streams,
        num_classes=num_classes,
        fabric=settings.fabric,
        operations=training_operations(denoiser, tokens, images),
    )


def build_space(settings: RecipeSettings, encoder: Encoder | None) -> Space:
    """Build the frozen networks' space.

    Raises:
        UserError: the tokenizer cannot be loaded.
    """
    try:
        tokenizer = build(settings.tokenizer)
    except ValueError as error:
        raise UserError(str(error)) from None
    return SPACES[settings.backend](tokenizer, encoder, settings.data.side)


def build_projection(settings: RecipeSettings) -> Projection | None:
    """Build the projection, not fitted yet, if the recipe has one."""
    if settings.projection is None or settings.encoder is None:
        return None
    projection: Projection = build(settings.projection, features=settings.encoder.width())
    return projection


def build_encoder(settings: RecipeSettings) -> Encoder | None:
    """Build the frozen encoder, if the recipe has one.

    Raises:
        UserError: its weights are not there, or do not fit.
    """
    try:
        encoder: Encoder | None = build(settings.encoder) if settings.encoder is not None else None
    except ValueError as error:
        raise UserError(f"encoder: {error}") from None
    return encoder


def _check_attention(settings: RecipeSettings, device_type: str) -> None:
    try:
        build(settings.denoiser.attention).describe(device_type)
    except ValueError as error:
        raise UserError(f"denoiser.attention: {error}; use sdpa, or auto") from None


def open_session(recipe: Recipe, *, root: Path, name: str | None = None, quiet: bool = False) -> Session:
    """Return a session in the recipe's own folder below `root`.

    Raises:
        UserError: `name` belongs to a run of another recipe.
    """
    return session_in(claim_folder(root, recipe.name, recipe.resolved(), name, completed), recipe, quiet=quiet)


def session_in(
    folder: RunFolder, recipe: Recipe, *, quiet: bool = False, begun: dict[str, Any] | None = None
) -> Session:
    """Return a session of a recipe in its folder.

    Args:
        begun: the recipe that the run has until it is loaded, if it is resumed with another; None: it is the same.
    """
    session = Session(assemble(recipe, begun_with=folder.feed()), folder, quiet=quiet, begun=begun)
    # A source may know only now that its images are not labelled.
    late = derive.label_warnings(recipe.settings, session.assembly.source.num_classes)
    for warning in dict.fromkeys([*recipe.warnings, *late]):
        session.console.warn(warning)
    return session


def open_run(folder: Path, overrides: Sequence[str] = ()) -> TrainedRun:
    """Return a run folder to sample from, with overrides of what does not change its weights (guidance, sampler, ...).

    The data that the run was trained on need not be there.

    Raises:
        UserError: not a run folder, or an override that does not fit.
    """
    run = RunFolder(folder, completed)
    _refuse_scoring(overrides)
    recipe = of_run(run, overrides)
    opened = TrainedRun(image_model(recipe, run.num_classes()), run)
    console = RunConsole(quiet=not opened.fabric.is_global_zero, stderr=True)
    for warning in dict.fromkeys([*recipe.warnings, *derive.label_warnings(recipe.settings, run.num_classes())]):
        console.warn(warning)
    return opened


def _refuse_scoring(overrides: Sequence[str]) -> None:
    for change in overrides:
        if change.partition("=")[0].split(".")[0] == "evaluate":
            raise UserError(f"command line: {change}: does nothing here; for the images there are -n, --labels, --seed")
