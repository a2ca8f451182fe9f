"""From a recipe to what its scores are made with."""

from __future__ import annotations

from collections.abc import Iterator

from ..backends.errors import UserError
from ..backends.evaluation.collected import FEATURES, LOGITS, SEMANTIC_CELLS, Probe
from ..backends.evaluation.references import NpzReference, Reference, SourceReference
from ..backends.evaluation.score_parts import ScoreParts
from ..components.data.settings import DataSettings, FolderSettings
from ..components.data.source import Source
from ..components.extractors.extractor import Extractor
from ..components.registry import build
from ..components.user_cache import expanded
from . import derive
from .schema import RecipeSettings

DECODING = ("metadata", "background", "max_pixels")
"""Settings of how image files are decoded."""


def score_parts(settings: RecipeSettings, source: Source | None) -> ScoreParts:
    """Build what scores are made with.

    Args:
        source: images of the recipe's data; None where they are not needed (see `needs_data`).

    Raises:
        UserError: the extractor's weights or the reference cannot be read.
    """
    evaluate = settings.evaluate
    width = derive.semantic_width(settings)
    return ScoreParts(
        settings=evaluate,
        extractor=_extractor(settings),
        extractor_identity=evaluate.extractor.identity(),
        probes=tuple(_probes(settings, width)),
        reference=_of_one_size(settings, _reference(settings, source)),
        data=_own_images(settings, source, evaluate.samples) if source is not None and width else None,
        better=_better(settings, width),
    )


def needs_data(settings: RecipeSettings) -> bool:
    """Return whether the recipe's data have to be there to score it."""
    place = settings.evaluate.reference
    elsewhere = any(each is not None for each in (place.data, place.folder, place.file))
    return not elsewhere or derive.semantic_width(settings) > 0


def _extractor(settings: RecipeSettings) -> Extractor:
    try:
        extractor: Extractor = build(settings.evaluate.extractor)
    except ValueError as error:
        raise UserError(f"evaluate.extractor: {error}") from None
    return extractor


def _probes(settings: RecipeSettings, semantic_width: int) -> Iterator[Probe]:
    """Yield every metric on the images, then every one that reads features on the semantic stream."""
    extractor = settings.evaluate.extractor
    for metric in settings.evaluate.metrics:
        compares, logits = metric.reference() != "nothing", metric.reads() == "logits"
        width = extractor.logits() if logits else extractor.width()
        yield Probe("", LOGITS if logits else FEATURES, build(metric, width=width), compares)
    for metric in settings.evaluate.metrics if semantic_width else ():
        if metric.reads() == "features":
            compares = metric.reference() != "nothing"
            yield Probe(derive.SEMANTIC_PREFIX, SEMANTIC_CELLS, build(metric, width=semantic_width), compares)


def _better(settings: RecipeSettings, semantic_width: int) -> dict[str, str]:
    metrics = settings.evaluate.metrics
    better = {name: way for metric in metrics for name, way in metric.scores().items()}
    of_features = [metric for metric in metrics if semantic_width and metric.reads() == "features"]
    semantic = {f"{derive.SEMANTIC_PREFIX}{name}": way for m in of_features for name, way in m.scores().items()}
    return {**better, **semantic}


def _reference(settings: RecipeSettings, source: Source | None) -> Reference:
    place = settings.evaluate.reference
    problems = [f"evaluate.reference.{key}: {message}" for key, message in place.problems()]
    if problems:
        raise UserError(*problems)
    if place.file is not None:
        try:
            return NpzReference(expanded(place.file), place.images)
        except ValueError as error:
            raise UserError(f"evaluate.reference.file: {error}") from None
    other = _other_source(settings)
    if other is None:
        if source is None:
            raise UserError("evaluate.reference: the recipe's data are not here; name a folder or a file")
        return _own_images(settings, source, place.images)
    try:
        return SourceReference(build(other), place.images, other.model_dump(mode="json"))
    except (OSError, ValueError) as error:
        raise UserError(f"evaluate.reference: {error}") from None


def _of_one_size(settings: RecipeSettings, reference: Reference) -> Reference:
    """Return a reference whose images are as large as those that are generated.

    Raises:
        UserError: they are not: features of resized images are others.
    """
    side, found = settings.data.side, reference.side
    if found is not None and found != (side, side):
        raise UserError(
            f"evaluate.reference: images of {found[1]}x{found[0]} pixels, and those of the recipe have {side}x{side}: "
            "take a file of that size, or a folder or source, which are resized (evaluate.reference.data.image_size)"
        )
    return reference


def _other_source(settings: RecipeSettings) -> DataSettings | None:
    place = settings.evaluate.reference
    if place.folder is not None:
        # Decoded as the images that are learned from, where these are files, too.
        shared = {key: getattr(settings.data, key) for key in DECODING if hasattr(settings.data, key)}
        return FolderSettings(root=place.folder, image_size=settings.data.side, **shared)
    return place.data


def _own_images(settings: RecipeSettings, source: Source, count: int) -> SourceReference:
    return SourceReference(source, count, settings.data.model_dump(mode="json"))
