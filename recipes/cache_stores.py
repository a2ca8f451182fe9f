"""The stores that a recipe's cache consists of: in which form, and what each is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backends.caching.digests import plugin_code, weights_digest
from ..backends.caching.folder import Key, Store
from ..backends.caching.forms import BasisFeatures, EightBitFeatures, FeatureForm, FullFeatures, ProjectedFeatures
from ..backends.caching.job import CODE, FEATURES
from ..backends.errors import UserError
from ..backends.space import Space
from ..components.data.record import SourceRecord
from ..components.data.source import Source
from ..components.projections.projection import Projection
from .schema import RecipeSettings

NO_FEATURES = "moments"
"""The form of a recipe without an encoder."""


def feature_forms(settings: RecipeSettings, projection: Projection | None) -> dict[str, FeatureForm | None]:
    """Return the forms in which this recipe's features can be stored; without features there is one, of none."""
    if projection is None or settings.projection is None:
        return {NO_FEATURES: None}
    width = projection.features
    forms: dict[str, FeatureForm | None] = {
        "full": FullFeatures(width),
        "8bit": EightBitFeatures(width),
        "basis": BasisFeatures(min(settings.cache.components, width), width),
    }
    return forms if needs_features(settings, projection) else {**forms, "projected": ProjectedFeatures(projection)}


def needs_features(settings: RecipeSettings, projection: Projection) -> bool:
    """Return whether training needs the features themselves: the projection learns, or regularises what it makes."""
    regularizes = type(projection).regularizers is not Projection.regularizers
    learns = settings.projection is not None and settings.projection.learns()
    return learns or regularizes or any(True for _ in projection.parameters())


def usable_forms(settings: RecipeSettings, projection: Projection | None) -> tuple[str, ...]:
    """Return the forms that serve the recipe, the one in which its own cache would be made first.

    A fixed projection is served by whole features, too; forms that lose some are only used where the recipe says so.

    Raises:
        UserError: the recipe asks for a form that does not hold what its projection needs.
    """
    if projection is None:
        return (NO_FEATURES,)
    asked, needed = settings.cache.features, needs_features(settings, projection)
    if asked == "projected" and needed and settings.cache.use == "never":
        return ("full",)
    if asked == "projected" and needed:
        name = settings.projection.name if settings.projection is not None else ""
        raise UserError(
            f"cache.features: '{name}' has regularisers or weights that need the features themselves, and 'projected' "
            "does not store them (full, 8bit or basis)"
        )
    if asked != "auto":
        return (asked,)
    return ("full",) if needed else ("projected", "full")


@dataclass(frozen=True)
class Contents:
    """What a cache is made of, as digests: a data set and frozen networks.

    Attributes:
        data: the data set's identity.
        variants: versions of an image that augmentation makes.
        tokenizer: digest of its weights.
        encoder: digest of its weights, empty if there is none.
        projection: digest of a plug-in projection's code, else empty.
    """

    data: dict[str, Any]
    variants: int
    tokenizer: str = ""
    encoder: str = ""
    projection: str = ""

    @classmethod
    def of(cls, source: Source, space: Space, projection: Projection | None) -> Contents:
        """Take the digests of what is there; the networks' whole weights are read."""
        return cls(
            data=SourceRecord.glance(source).identity(),
            variants=source.variants,
            tokenizer=weights_digest(space.tokenizer),
            encoder=weights_digest(space.encoder) if space.encoder is not None else "",
            projection=plugin_code(projection) if projection is not None else "",
        )


def stores_of(settings: RecipeSettings, contents: Contents, form: str, root: Path) -> tuple[Store, ...]:
    """Return the stores of a recipe whose features are in a form, below the folder of all caches."""
    shared: Key = {"data": contents.data, "variants": contents.variants}
    tokenizer = {**settings.tokenizer.identity(), "weights": contents.tokenizer}
    stores = [Store.below(root, CODE, settings.tokenizer.name, {**shared, "tokenizer": tokenizer})]
    if settings.encoder is not None and form != NO_FEATURES:
        encoder = {**settings.encoder.identity(), "weights": contents.encoder}
        features = dict(_form_key(settings, contents, form))
        key = {**shared, "encoder": encoder, "features": features}
        stores.append(Store.below(root, FEATURES, f"{settings.encoder.name}-{form}", key))
    return tuple(stores)


def _form_key(settings: RecipeSettings, contents: Contents, form: str) -> Iterator[tuple[str, Any]]:
    """Yield what decides the features of a form, beside the encoder."""
    assert settings.projection is not None and settings.encoder is not None
    yield "form", form
    if form == "projected":
        yield "projection", {**settings.projection.model_dump(mode="json"), "code": contents.projection}
    elif form != "full":
        yield "fit_images", settings.projection.fit_images
    if form == "basis":
        yield "components", min(settings.cache.components, settings.encoder.width())
