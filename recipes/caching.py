"""The cache of a recipe: what it is made of, where it lies, and what the run reads instead of encoding."""

from __future__ import annotations

from ..backends.assembly import Assembly
from ..backends.caching.estimate import costs, online_share, table
from ..backends.caching.feed import CachedFeed
from ..backends.caching.folder import CacheFolder, Key, weights_digest
from ..backends.caching.forms import BasisFeatures, EightBitFeatures, FeatureForm, FullFeatures, ProjectedFeatures
from ..backends.caching.job import CacheJob
from ..backends.console import RunConsole
from ..backends.errors import UserError
from ..backends.launching import launch
from ..backends.loader import Feed, ImageFeed
from ..components.projections.projection import Projection
from ..components.user_cache import expanded
from .derive import feature_form
from .recipe import Recipe
from .schema import RecipeSettings

ONLINE = "images"
"""What a run folder says of a run whose images are encoded on line."""


def cache_folder(recipe: Recipe) -> CacheFolder:
    """Return the folder that a recipe's cache lies in, or would."""
    return CacheFolder(expanded(recipe.settings.cache.folder) / recipe.name)


def feature_forms(settings: RecipeSettings, projection: Projection | None) -> dict[str, FeatureForm | None]:
    """Return the forms in which this recipe's features can be stored; without features there is one, of none."""
    if projection is None or settings.projection is None:
        return {feature_form(settings): None}
    width = projection.features
    forms: dict[str, FeatureForm | None] = {
        "full": FullFeatures(width),
        "8bit": EightBitFeatures(width),
        "basis": BasisFeatures(min(settings.cache.components, width), width),
    }
    return forms if settings.projection.learns() else {**forms, "projected": ProjectedFeatures(projection)}


def cache_key(settings: RecipeSettings, assembly: Assembly) -> Key:
    """Return everything that decides what a cache of this recipe holds."""
    space, form = assembly.space, feature_form(settings)
    key: Key = {
        "data": assembly.source.fingerprint(),
        "images": len(assembly.source),
        "variants": assembly.source.variants,
        "tokenizer": {"name": settings.tokenizer.name, "weights": weights_digest(space.tokenizer)},
        "encoder": None,
    }
    if settings.encoder is None or settings.projection is None or space.encoder is None:
        return key
    measured: dict[str, object] = {"form": form}
    if form == "projected":
        measured["projection"] = settings.projection.model_dump(mode="json")
    elif form != "full":
        measured["fit_images"] = settings.projection.fit_images
    if form == "basis":
        measured["components"] = min(settings.cache.components, settings.encoder.width())
    encoder = settings.encoder.identity()
    return {**key, "encoder": {**encoder, "weights": weights_digest(space.encoder)}, "features": measured}


def choose_feed(recipe: Recipe, assembly: Assembly, begun_with: str | None) -> tuple[Feed, str]:
    """Return where training batches come from, and its name in the run folder.

    A run goes on with what it began with, so that it goes on exactly.

    Raises:
        UserError: a cache that was made of something else, is damaged, or is required and not there.
    """
    settings, folder = recipe.settings, cache_folder(recipe)
    online: tuple[Feed, str] = (ImageFeed(assembly.source, assembly.space), ONLINE)
    if settings.cache.use == "never" or begun_with == ONLINE:
        return online
    if folder.key() is None:
        if settings.cache.use == "required" or begun_with is not None:
            raise UserError(
                f"{folder.path}: there is no cache; 'latsem cache' makes it, with the same recipe and changes"
            )
        return online
    key = cache_key(settings, assembly)
    folder.require(key)
    form = feature_forms(settings, assembly.model.projection)[feature_form(settings)]
    if form is not None:
        form.state = folder.load_form()
    return CachedFeed(folder, assembly.source, assembly.space.tokenizer, form), str(folder.path)


def make_cache(recipe: Recipe, *, estimate: bool, replace: bool) -> None:
    """Do what `latsem cache` does.

    Raises:
        UserError: another cache is in the way, or the disk is too small.
    """
    from .assemble import assemble  # noqa: PLC0415 - it chooses a feed by this module

    assembly = assemble(recipe, begun_with=ONLINE, scored=False)
    settings, folder = recipe.settings, cache_folder(recipe)
    fabric = launch(assembly.fabric)
    assembly.space.to(fabric.device)
    assembly.model.to(fabric.device)
    console = RunConsole(quiet=not fabric.is_global_zero)
    forms, chosen = feature_forms(settings, assembly.model.projection), feature_form(settings)
    every = costs(assembly.source, assembly.space, forms)
    for line in table(every, chosen, online_share(assembly.source, assembly.space, assembly.model)):
        console.say(line)
    if estimate:
        return
    job = CacheJob(
        source=assembly.source,
        space=assembly.space,
        form=forms[chosen],
        folder=folder,
        key=cache_key(settings, assembly),
        fit_images=assembly.fit_images,
        shard_images=settings.cache.shard_images,
        cost=every[chosen],
    )
    job.run(fabric, console, replace=replace)
