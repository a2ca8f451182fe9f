"""From a recipe to what its scores are made with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..backends.errors import UserError
from ..backends.evaluation.collected import FEATURES, LOGITS, SEMANTIC_CELLS, Probe
from ..backends.evaluation.references import NpzReference, Reference, SourceReference
from ..backends.evaluation.score_parts import ScoreParts
from ..components.data.settings import DataSettings, FolderSettings
from ..components.data.source import Source
from ..components.extractors.extractor import Extractor
from ..components.registry import build
from . import derive
from .schema import RecipeSettings


def score_parts(settings: RecipeSettings, source: Source | None) -> ScoreParts:
    """Build what scores are made with.

    Args:
        source: images of the recipe's data; None where they are not needed (see `needs_data`).

    Raises:
        UserError: the extractor's weights or the reference cannot be read.
    """
    evaluate = settings.evaluate
    width = derive.semantic_width(settings)
    reference = _reference(settings, source)
    _require_reference(settings, reference)
    return ScoreParts(
        settings=evaluate,
        extractor=_extractor(settings),
        extractor_identity=evaluate.extractor.identity(),
        probes=tuple(_probes(settings, width)),
        reference=reference,
        data=source if width else None,
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
    evaluate = settings.evaluate
    for metric in evaluate.metrics:
        compares = metric.reference() != "nothing"
        reads = LOGITS if metric.reads() == "logits" else FEATURES
        width = evaluate.extractor.logits() if reads == LOGITS else evaluate.extractor.width()
        yield Probe("", reads, build(metric, width=width), compares)
        if semantic_width and reads == FEATURES:
            yield Probe(derive.SEMANTIC_PREFIX, SEMANTIC_CELLS, build(metric, width=semantic_width), compares)


def _better(settings: RecipeSettings, semantic_width: int) -> dict[str, str]:
    better: dict[str, str] = {}
    for metric in settings.evaluate.metrics:
        better |= metric.scores()
        if semantic_width and metric.reads() == "features":
            better |= {f"{derive.SEMANTIC_PREFIX}{name}": way for name, way in metric.scores().items()}
    return better


def _reference(settings: RecipeSettings, source: Source | None) -> Reference:
    place = settings.evaluate.reference
    problems = [f"evaluate.reference.{key}: {message}" for key, message in place.problems()]
    if problems:
        raise UserError(*problems)
    if place.file is not None:
        try:
            return NpzReference(place.file.expanduser(), place.images)
        except ValueError as error:
            raise UserError(f"evaluate.reference.file: {error}") from None
    other = _other_source(settings)
    if other is None:
        if source is None:
            raise UserError("evaluate.reference: the recipe's data are not here; name a folder or a file")
        return SourceReference(source, place.images, _described(settings.data))
    try:
        return SourceReference(build(other), place.images, _described(other))
    except (OSError, ValueError) as error:
        raise UserError(f"evaluate.reference: {error}") from None


def _require_reference(settings: RecipeSettings, reference: Reference) -> None:
    """Refuse a reference that a metric cannot be computed of, before images are generated to be compared with it."""
    extractor = settings.evaluate.extractor
    try:
        moments = reference.moments(extractor.name, extractor.width())
    except (OSError, ValueError) as error:
        raise UserError(f"evaluate.reference: {error}") from None
    there = len(reference)
    for metric in settings.evaluate.metrics:
        needs = metric.reference()
        if needs == "nothing" or (needs == "moments" and moments is not None):
            continue
        if there == 0 and settings.evaluate.reference.file is not None:
            raise UserError(
                f"evaluate.reference.file: {settings.evaluate.reference.file} has no images, and '{metric.name}' of "
                f"'{extractor.name}' needs them (moments are of inception's features, for frechet alone)"
            )
        width = extractor.logits() if metric.reads() == "logits" else extractor.width()
        shortage = metric.shortage(width, there, of_reference=True)
        if shortage:
            raise UserError(f"evaluate.reference: {shortage}; take more images, or other evaluate.metrics")


def _other_source(settings: RecipeSettings) -> DataSettings | None:
    place = settings.evaluate.reference
    if place.folder is not None:
        return FolderSettings(root=place.folder, image_size=settings.data.side)
    return place.data


def _described(data: DataSettings) -> dict[str, Any]:
    return data.model_dump(mode="json")
