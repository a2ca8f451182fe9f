"""The cache of a recipe: which stores there are of it, and what the run reads instead of encoding."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..backends.assembly import Assembly
from ..backends.caching.estimate import costs, online_share, table
from ..backends.caching.feed import CachedFeed
from ..backends.caching.folder import MANIFEST, CacheFolder, Key, Store, stores_below
from ..backends.caching.forms import FeatureForm
from ..backends.caching.job import CacheJob
from ..backends.console import RunConsole
from ..backends.errors import UserError
from ..backends.launching import launch
from ..backends.loader import Feed, ImageFeed
from ..backends.run_folder import differences
from ..backends.shown import relative
from ..backends.space import Space
from ..components.data.source import Source
from ..components.projections.projection import Projection
from ..components.user_cache import expanded
from .cache_stores import Contents, feature_forms, stores_of, usable_forms
from .recipe import Recipe

ONLINE = "images"
"""What a run folder says of a run whose images are encoded on line."""

BESIDE = " + "
"""Between the stores of a cache, in a run folder."""

_ADDRESSED = re.compile(r"-[0-9a-f]{12}$")
_DIGEST = re.compile(r'"[0-9a-f]{16,}"')


@dataclass(frozen=True)
class Choice:
    """Where training batches come from.

    Attributes:
        name: in the run folder: `images`, or the stores.
        form: of stored features; empty where images are encoded on line.
        note: why images are encoded on line although there are caches; empty if there is nothing to say.
    """

    feed: Feed
    name: str = ONLINE
    form: str = ""
    note: str = ""


def cache_root(recipe: Recipe) -> Path:
    """Return the folder of all caches."""
    return expanded(recipe.settings.cache.folder)


def choose_feed(
    recipe: Recipe, source: Source, space: Space, projection: Projection | None, begun_with: str | None
) -> Choice:
    """Return where training batches come from.

    A run is continued with what it began with, so that its numbers are those of a run that was never stopped.

    Raises:
        UserError: a cache that is not finished, is damaged, or is of images that were changed in place; one that is
            required and not there.
    """
    settings, root = recipe.settings, cache_root(recipe)
    online = Choice(ImageFeed(source, space))
    if settings.cache.use == "never" or begun_with == ONLINE:
        return online
    usable = usable_forms(settings, projection)
    needed = settings.cache.use == "required" or begun_with is not None
    if not needed and not any(root.glob("*/*.json")):
        return online
    contents = Contents.of(source, space, projection)
    options = [(form, stores_of(settings, contents, form, root)) for form in usable]
    if begun_with is not None:
        options = _begun_with(options, begun_with)
    for form, stores in options:
        if all(store.folder.key() is not None for store in stores):
            for store in stores:
                store.folder.require(store.key, source)
            restored = _with_state(feature_forms(settings, projection)[form], stores[-1])
            feed = CachedFeed(stores, source, space.tokenizer, restored)
            return Choice(feed, BESIDE.join(str(store.folder.path.absolute()) for store in stores), form)
    note = _nearest(root, recipe.name, options)
    if needed:
        what = f"the cache that this run began with ({begun_with}) is not there" if begun_with else "there is no cache"
        raise UserError(f"{root}: {what}{note}; 'latsem cache' makes it, with the same recipe and changes")
    return replace(online, note=note)


def _with_state(form: FeatureForm | None, store: Store) -> FeatureForm | None:
    """Return a form with what it measured when the store was made."""
    if form is not None:
        form.state = store.folder.load_form()
    return form


def _begun_with(
    options: Sequence[tuple[str, tuple[Store, ...]]], begun_with: str
) -> list[tuple[str, tuple[Store, ...]]]:
    """Return the option whose stores are of the form that a run began with; of a run of an older version, the first.

    Only data that have changed, and were accepted, give stores of the same form another address.
    """
    places = [Path(each) for each in begun_with.split(BESIDE)]
    if not all(_ADDRESSED.search(place.name) for place in places):
        return list(options[:1])
    return [
        (form, tuple(_found_at(store, place) for store, place in zip(stores, places, strict=True)))
        for form, stores in options
        if [_kind(store.folder.path) for store in stores] == [_kind(place) for place in places]
    ]


def _kind(store: Path) -> str:
    return _ADDRESSED.sub("", store.name)


def _found_at(store: Store, place: Path) -> Store:
    """Return a store where a run found it, if it is there still, whatever the working directory is now."""
    there = place.name == store.folder.path.name and place.is_dir()
    return replace(store, folder=CacheFolder(place)) if there else store


def _nearest(root: Path, recipe: str, options: Sequence[tuple[str, tuple[Store, ...]]]) -> str:
    """Return why the caches that are there do not serve, in a clause, as far as it is worth a word."""
    if (root / recipe / MANIFEST).is_file():
        return f" ({relative(root / recipe)} is of an older version, and can be removed)"
    wanted = [store for _, stores in options for store in stores if store.folder.key() is None]
    unlike = [
        (_form(key) != _form(store.key), differences(key, store.key), other)
        for other in stores_below(root)
        for store in wanted
        if (key := other.key()) is not None and key.keys() == store.key.keys()
    ]
    if not unlike:
        return ""
    _, changed, other = min(unlike, key=lambda found: (found[0], len(found[1])))
    return f" ({relative(other.path)} was made otherwise: {'; '.join(map(_without_digests, changed))})"


def _without_digests(change: str) -> str:
    key, _, values = change.partition(": ")
    return key if _DIGEST.search(values) else change


def _form(key: Key) -> object:
    return key.get("features", {}).get("form")


def make_cache(recipe: Recipe, *, estimate: bool, replace: bool) -> None:
    """Do what `latsem cache` does.

    Raises:
        UserError: another cache is in the way, or the disk is too small.
    """
    from .assemble import assemble  # noqa: PLC0415 - it chooses a feed by this module

    assembly = assemble(recipe, begun_with=ONLINE, scored=False)
    settings, projection = recipe.settings, assembly.model.projection
    fabric = launch(assembly.fabric)
    assembly.space.to(fabric.device)
    assembly.model.to(fabric.device)
    console = RunConsole(quiet=not fabric.is_global_zero)
    forms, usable = feature_forms(settings, projection), usable_forms(settings, projection)
    every = costs(assembly.source, assembly.space, forms)
    if estimate:
        for line in table(every, usable[0], online_share(assembly.source, assembly.space, assembly.model)):
            console.say(line)
        return
    form, stores = _stores_to_make(recipe, assembly, usable)
    for line in table(every, form, online_share(assembly.source, assembly.space, assembly.model)):
        console.say(line)
    job = CacheJob(
        source=assembly.source,
        space=assembly.space,
        form=forms[form],
        stores=stores,
        fit_images=assembly.fit_images,
        shard_images=settings.cache.shard_images,
        cost=every[form],
    )
    job.run(fabric, console, replace=replace)


def _stores_to_make(recipe: Recipe, assembly: Assembly, usable: Sequence[str]) -> tuple[str, tuple[Store, ...]]:
    """Return the form whose features are there already, for this recipe or another, or that of the recipe itself."""
    contents = Contents.of(assembly.source, assembly.space, assembly.model.projection)
    options = [(form, stores_of(recipe.settings, contents, form, cache_root(recipe))) for form in usable]
    return next((option for option in options if option[1][-1].folder.complete()), options[0])
