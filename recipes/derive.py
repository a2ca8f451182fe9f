"""What follows from a recipe: the streams, and whether the parts fit together. No part is built, no torch imported."""

from __future__ import annotations

from collections.abc import Iterator

from ..backends.settings import StreamSettings
from ..components.streams import IMAGE, SEMANTIC, StreamSpec
from .schema import RecipeSettings

Problem = tuple[tuple[str, ...], str]
"""Path of a key, and what is wrong with it."""


def outside_problems(recipe: RecipeSettings) -> Iterator[Problem]:
    """Yield what is wrong outside the recipe: folders and files that it names."""
    for key, message in recipe.data.problems():
        yield ("data", key), message


def clashes(recipe: RecipeSettings) -> Iterator[Problem]:
    """Yield everything that keeps the parts from fitting together."""
    if recipe.encoder is not None and recipe.projection is None:
        yield (
            ("projection",),
            "an encoder needs a projection (pca, random, coevolving) to make a stream of its features",
        )
    if recipe.projection is not None and recipe.encoder is None:
        yield ("encoder",), "a projection needs an encoder (see 'latsem list encoder')"
    grid_problems = list(_grid_problems(recipe))
    yield from grid_problems
    if recipe.encoder is not None and recipe.projection is not None:
        width = recipe.encoder.width()
        if recipe.projection.channels > width:
            channels = recipe.projection.channels
            yield ("projection", "channels"), f"{channels} channels from {width} features of '{recipe.encoder.name}'"
    if not grid_problems:
        yield from (((("denoiser", key)), message) for key, message in recipe.denoiser.problems(stream_specs(recipe)))
    present = {IMAGE} | ({SEMANTIC} if recipe.encoder is not None else set())
    for stream in recipe.streams:
        if stream not in present:
            yield ("streams", stream), f"there is no '{stream}' stream without an encoder"
    for name in recipe.guidance.streams_named():
        if name not in present:
            yield ("guidance", "streams"), f"there is no stream '{name}' (only {', '.join(sorted(present))})"
    yield from _score_problems(recipe)


def _grid_problems(recipe: RecipeSettings) -> Iterator[Problem]:
    grid, patch = recipe.tokenizer.grid(recipe.data.side), recipe.denoiser.patch
    if grid % patch:
        legal = ", ".join(str(p) for p in range(1, grid + 1) if grid % p == 0)
        yield ("denoiser", "patch"), f"patch {patch} does not divide an image stream of {grid}x{grid} (legal: {legal})"
        return
    tokens = grid // patch
    if recipe.encoder is not None and not _match(tokens, recipe.encoder.grid()):
        features = recipe.encoder.grid()
        legal = ", ".join(str(p) for p in range(1, grid + 1) if grid % p == 0 and _match(grid // p, features))
        yield (
            ("denoiser", "patch"),
            f"{tokens}x{tokens} image tokens cannot match the {features}x{features} features of "
            f"'{recipe.encoder.name}' (legal patches: {legal or 'none for this image size'})",
        )


def _match(tokens: int, features: int) -> bool:
    """Return whether image tokens and features cover each other in whole squares."""
    return tokens % features == 0 or features % tokens == 0


def _score_problems(recipe: RecipeSettings) -> Iterator[Problem]:
    evaluate = recipe.evaluate
    if not evaluate.samples:
        return
    for index, metric in enumerate(evaluate.metrics):
        needed = metric.samples_needed(evaluate.extractor.width())
        for key, count in (("samples", evaluate.samples), ("reference", evaluate.reference)):
            if count < needed:
                message = f"{metric.name} on {evaluate.extractor.width()} features needs at least {needed}, not {count}"
                yield ("evaluate", key), message
        if metric.name in [other.name for other in evaluate.metrics[:index]]:
            yield ("evaluate", "metrics"), f"'{metric.name}' is there twice"


def warnings(recipe: RecipeSettings) -> Iterator[str]:
    """Yield settings that silently do nothing."""
    if recipe.data.classes() == 0 and recipe.guidance.needs_labels():
        yield f"guidance '{recipe.guidance.name}' has no effect: the images are not labelled"
    if recipe.guidance.needs_labels() and recipe.data.classes() and recipe.train.class_dropout == 0:
        yield f"guidance '{recipe.guidance.name}' compares with a class that is never trained: class_dropout is 0"


def stream_specs(recipe: RecipeSettings) -> dict[str, StreamSpec]:
    """Return the streams of a recipe whose grids match (see `clashes`)."""
    grid, patch = recipe.tokenizer.grid(recipe.data.side), recipe.denoiser.patch
    specs = {IMAGE: _spec(recipe, IMAGE, recipe.tokenizer.channels(), grid, patch)}
    if recipe.encoder is not None and recipe.projection is not None:
        features = recipe.encoder.grid()
        semantic_patch = max(1, features // (grid // patch))
        specs[SEMANTIC] = _spec(recipe, SEMANTIC, recipe.projection.channels, features, semantic_patch)
    return specs


def auto_weights(recipe: RecipeSettings) -> frozenset[str]:
    """Return the streams whose loss weight follows from their std."""
    return frozenset(name for name, settings in recipe.streams.items() if settings.weight == "auto")


def _spec(recipe: RecipeSettings, name: str, channels: int, grid: int, patch: int) -> StreamSpec:
    own = dict(recipe.streams).get(name, StreamSettings())  # type: ignore[call-overload]
    return StreamSpec(
        name=name,
        channels=channels,
        grid=grid,
        patch=patch,
        prediction=own.prediction or recipe.process.prediction,
        weight=1.0 if own.weight == "auto" else own.weight,
        scale=own.scale,
        lead=own.lead,
        own_time=own.own_time,
        stop_gradient=own.stop_gradient,
    )
