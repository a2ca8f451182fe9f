"""What follows from a recipe: the streams, and whether the parts fit together. No part is built, no torch imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from ..backends.settings import StreamSettings
from ..components.data.settings import ExpectedData
from ..components.extractors.settings import ExtractorSettings
from ..components.registry import available
from ..components.samplers.settings import SamplerSettings
from ..components.settings import Settings
from ..components.streams import IMAGE, SEMANTIC, PathKind, StreamSpec
from .schema import RecipeSettings

SEMANTIC_PREFIX = "semantic/"
"""What the names of scores of the semantic stream begin with."""

Problem = tuple[tuple[str, ...], str]
"""Path of a key, and what is wrong with it."""


def with_expected_data(recipe: RecipeSettings) -> tuple[RecipeSettings, list[str]]:
    """Return a recipe whose data, if it is not here, is what the recipe expects, and what there is to say of it."""
    data = recipe.data
    problems = list(data.problems())
    if not problems or data.expect_images is None or data.expect_classes is None:
        return recipe, []
    expected = ExpectedData(
        image_side=data.side,
        images=data.expect_images,
        labels=data.expect_classes,
        variants=data.versions(),
    )
    notes = [f"data.{key}: {message} (the data is not here: counted as expected)" for key, message in problems]
    return recipe.model_copy(update={"data": expected}), notes


def outside_problems(recipe: RecipeSettings, *, data_needed: bool = True) -> Iterator[Problem]:
    """Yield what is wrong outside the recipe: folders, files and models that it names."""
    if data_needed:
        for key, message in recipe.data.problems():
            yield ("data", key), message
        for key, message in recipe.train.problems():
            yield ("train", key), message
    for key, message in recipe.tokenizer.problems():
        yield ("tokenizer", key), message


def encoder_problems(recipe: RecipeSettings) -> Iterator[Problem]:
    """Yield what is wrong with the encoder's weights, or with the images that it is to take."""
    for key, message in recipe.encoder.problems() if recipe.encoder is not None else ():
        yield ("encoder", key), message


def scoring_problems(recipe: RecipeSettings) -> Iterator[Problem]:
    """Yield what is wrong outside the recipe with what scores are made with."""
    if not recipe.evaluate.samples:
        return
    for key, message in recipe.evaluate.extractor.problems():
        yield ("evaluate", "extractor", *key.split(".")), message
    for key, message in recipe.evaluate.reference.problems():
        yield ("evaluate", "reference", key), message


def fitted(recipe: RecipeSettings) -> RecipeSettings:
    """Return a recipe with the encoder's image size chosen, where it is open, for the image's tokens."""
    if recipe.encoder is None:
        return recipe
    tokens = max(1, recipe.tokenizer.grid(recipe.data.side) // recipe.denoiser.patch)
    return recipe.model_copy(update={"encoder": recipe.encoder.fitted(tokens)})


def clashes(recipe: RecipeSettings) -> Iterator[Problem]:
    """Yield everything that keeps the parts from fitting together."""
    yield from _projection_problems(recipe)
    space_problems = list(_space_problems(recipe))
    yield from space_problems
    if not space_problems:
        yield from _grid_problems(recipe)
    channels = {IMAGE: recipe.tokenizer.channels()}
    if recipe.encoder is not None:
        channels[SEMANTIC] = recipe.projection.channels if recipe.projection is not None else 0
    for stream in recipe.streams:
        if stream not in channels:
            yield ("streams", stream), f"there is no '{stream}' stream without an encoder"
    yield from _process_problems(recipe)
    yield from _guidance_problems(recipe, channels)
    if recipe.cache.features == "projected" and recipe.projection is not None and recipe.projection.learns():
        name = recipe.projection.name
        yield (
            ("cache", "features"),
            f"'{name}' goes on learning: what it makes now cannot be stored (full, 8bit or basis)",
        )
    yield from _score_problems(recipe)


def _projection_problems(recipe: RecipeSettings) -> Iterator[Problem]:
    encoder, projection = recipe.encoder, recipe.projection
    if encoder is None and projection is None:
        return
    if projection is None:
        yield (
            ("projection",),
            "an encoder needs a projection (pca, random, coevolving) to make a stream of its features",
        )
    elif encoder is None:
        yield ("encoder",), "a projection needs an encoder (see 'latsem list encoder')"
    elif projection.channels > encoder.width():
        channels = projection.channels
        yield ("projection", "channels"), f"{channels} channels from {encoder.width()} features of '{encoder.name}'"
    elif projection.learns_from_image_alone() and not _stream_settings(recipe, SEMANTIC).stop_gradient:
        yield (
            ("streams", "semantic", "stop_gradient"),
            "a live target would move a projection that learns from the image's loss alone "
            "(stop_gradient=true, or projection.learns_from=all)",
        )


def _space_problems(recipe: RecipeSettings) -> Iterator[Problem]:
    tokenizer, side = recipe.tokenizer, recipe.data.side
    if tokenizer.space != recipe.backend:
        yield (
            ("backend",),
            f"tokenizer '{tokenizer.name}' belongs to backend '{tokenizer.space}', not '{recipe.backend}'",
        )
    elif side % tokenizer.factor():
        factor = tokenizer.factor()
        yield ("tokenizer",), f"'{tokenizer.name}' takes images whose side is a multiple of {factor}, not {side}"


def _grid_problems(recipe: RecipeSettings) -> Iterator[Problem]:
    grid, patch = recipe.tokenizer.grid(recipe.data.side), recipe.denoiser.patch
    if grid % patch:
        legal = ", ".join(map(str, _divisors(grid)))
        yield ("denoiser", "patch"), f"patch {patch} does not divide an image stream of {grid}x{grid} (legal: {legal})"
        return
    if not _tokens_match(recipe, patch):
        tokens, encoder = grid // patch, recipe.encoder
        fitting = [each for each in _divisors(grid) if _tokens_match(recipe, each)]
        features = f"the {encoder.grid()}x{encoder.grid()} features of '{encoder.name}'" if encoder else "the others"
        sizes = encoder.sizes(_divisors(tokens)) if encoder else []
        legal = f"; or encoder.image_size: {', '.join(map(str, sizes))}" if sizes else ""
        yield (
            ("denoiser", "patch"),
            f"{tokens}x{tokens} image tokens cannot match {features} (legal patches: "
            f"{', '.join(map(str, fitting)) or 'none for this image size'}{legal}; or fusion separate, or "
            "streams.semantic.grid=image)",
        )
        return
    yield from ((("denoiser", key), message) for key, message in recipe.denoiser.problems(stream_specs(recipe)))


def _tokens_match(recipe: RecipeSettings, patch: int) -> bool:
    """Return whether every stream is whole tokens, and these can be fused."""
    specs = stream_specs(recipe, patch)
    return all(spec.grid % spec.patch == 0 for spec in specs.values()) and not list(
        recipe.denoiser.fusion.problems(specs)
    )


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def _process_problems(recipe: RecipeSettings) -> Iterator[Problem]:
    process, sampler = recipe.process, recipe.sampler
    if sampler.path != process.path:
        fitting = ", ".join(name for name, part in available("sampler").items() if _walks(part.settings, process.path))
        yield ("sampler",), f"'{sampler.name}' cannot sample from process '{process.name}' (one of {fitting})"
    else:
        yield from ((("sampler", key), message) for key, message in sampler.problems(process.length()))
    for name, stream in recipe.streams.items():
        if stream.prediction is not None and stream.prediction not in process.predictions():
            legal = ", ".join(process.predictions())
            yield ("streams", name, "prediction"), f"process '{process.name}' predicts {legal}, not {stream.prediction}"
        if stream.lead and not process.has_leads():
            yield ("streams", name, "lead"), f"process '{process.name}' has one clock for all streams"


def _walks(sampler: type[Settings], path: PathKind) -> bool:
    return issubclass(sampler, SamplerSettings) and sampler.path == path


def _guidance_problems(recipe: RecipeSettings, channels: Mapping[str, int]) -> Iterator[Problem]:
    guidance, train = recipe.guidance, recipe.train
    yield from ((("guidance", *key.split(".")), message) for key, message in guidance.problems(channels))
    label, semantics = guidance.label_contrast(), guidance.semantic_contrast()
    if label is not None and label.scale != 1 and train.class_dropout == 0:
        yield (
            ("guidance",),
            f"'{guidance.name}' compares with images without a label, and train.class_dropout is 0: none were trained",
        )
    if semantics is not None and SEMANTIC not in channels:
        yield ("guidance",), f"'{guidance.name}' needs a semantic stream; add an encoder and a projection"
    elif semantics is not None and semantics.scale != 1 and train.semantic_dropout == 0:
        yield (
            ("guidance",),
            f"'{guidance.name}' compares with images without semantics, and train.semantic_dropout is 0: none were "
            "trained (ReDi trains with 0.2)",
        )


def semantic_width(recipe: RecipeSettings) -> int:
    """Return the number of values of a semantic stream that is scored, 0 if none is."""
    cells = recipe.evaluate.semantic_cells
    if recipe.projection is None or recipe.encoder is None or not cells:
        return 0
    spec = stream_specs(recipe)[SEMANTIC]
    return spec.channels * min(cells, spec.grid) ** 2


def _score_problems(recipe: RecipeSettings) -> Iterator[Problem]:
    evaluate = recipe.evaluate
    if not evaluate.samples:
        return
    extractor = evaluate.extractor
    for index, metric in enumerate(evaluate.metrics):
        reads_logits = metric.reads() == "logits"
        width = extractor.logits() if reads_logits else extractor.width()
        if not width:
            knowing = f"'{metric.name}' reads logits, and '{extractor.name}' gives none ({_with_logits()} does)"
            yield ("evaluate", "extractor"), knowing
            continue
        shortages = [("samples", metric.shortage(width, evaluate.samples))]
        semantic = 0 if reads_logits else semantic_width(recipe)
        of_stream = metric.shortage(semantic, evaluate.samples) if semantic else ""
        if of_stream and not shortages[0][1]:
            cells = min(evaluate.semantic_cells, stream_specs(recipe)[SEMANTIC].grid)
            reason = f"of the semantic stream's {cells}x{cells} cells, {of_stream}; or lower evaluate.semantic_cells"
            shortages.append(("samples", reason))
        if evaluate.reference.file is None:
            shortages.append(("reference", metric.shortage(width, evaluate.reference.images, of_reference=True)))
        yield from ((("evaluate", key), shortage) for key, shortage in dict.fromkeys(shortages) if shortage)
        if metric.name in [other.name for other in evaluate.metrics[:index]]:
            yield ("evaluate", "metrics"), f"'{metric.name}' is there twice"


def _with_logits() -> str:
    """Return the extractors that give logits."""
    kinds = {name: cast(type[ExtractorSettings], part.settings) for name, part in available("extractor").items()}
    return " or ".join(f"'{name}'" for name, settings in kinds.items() if settings.model_construct().logits())


def warnings(recipe: RecipeSettings) -> Iterator[str]:
    """Yield settings that silently do nothing."""
    yield from label_warnings(recipe, recipe.data.classes())
    if recipe.train.semantic_dropout and recipe.encoder is None:
        yield "train.semantic_dropout has no effect: there is no semantic stream"


def label_warnings(recipe: RecipeSettings, classes: int | None) -> Iterator[str]:
    """Yield what silently does nothing with that many classes; None: it is not known yet."""
    label = recipe.guidance.label_contrast()
    if classes == 0 and label is not None and label.scale != 1:
        yield f"guidance '{recipe.guidance.name}' has no effect: the images are not labelled"


def stream_specs(recipe: RecipeSettings, patch: int | None = None) -> dict[str, StreamSpec]:
    """Return the streams of a recipe whose grids match (see `clashes`), or would match with another patch."""
    grid, patch = recipe.tokenizer.grid(recipe.data.side), patch or recipe.denoiser.patch
    specs = {IMAGE: _spec(recipe, IMAGE, recipe.tokenizer.channels(), grid, patch)}
    if recipe.encoder is not None and recipe.projection is not None:
        own = _stream_settings(recipe, SEMANTIC).grid == "own"
        features = recipe.encoder.grid()
        semantic_grid, semantic_patch = (features, max(1, features // (grid // patch))) if own else (grid, patch)
        specs[SEMANTIC] = _spec(recipe, SEMANTIC, recipe.projection.channels, semantic_grid, semantic_patch)
    return specs


def auto_weights(recipe: RecipeSettings) -> frozenset[str]:
    """Return the streams whose loss weight follows from their std."""
    return frozenset(name for name, settings in recipe.streams.items() if settings.weight == "auto")


def _stream_settings(recipe: RecipeSettings, name: str) -> StreamSettings:
    return dict(recipe.streams).get(name, StreamSettings())  # type: ignore[call-overload]


def _spec(recipe: RecipeSettings, name: str, channels: int, grid: int, patch: int) -> StreamSpec:
    own = _stream_settings(recipe, name)
    return StreamSpec(
        name=name,
        channels=channels,
        grid=grid,
        patch=patch,
        prediction=own.prediction or recipe.process.predictions()[0],
        weight=1.0 if own.weight == "auto" else own.weight,
        scale=own.scale,
        lead=own.lead,
        own_time=own.own_time,
        stop_gradient=own.stop_gradient,
        learned_variance=recipe.process.learns_variance(),
    )
