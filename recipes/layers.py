"""Layers of a recipe: base files, the file itself, the command line. Later ones win, key by key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..backends.errors import UserError
from ..backends.settings import reference_section
from ..components.registry import KINDS
from ..components.settings import near_name
from .yaml_reader import KeyPath, Sourced, parse_value, read_yaml

COMMAND_LINE = "command line"
STUDIES = "studies/"

PARTS = frozenset({*KINDS, "network"})
"""Keys whose value may be the bare name of a part: kinds, and the encoder of an extractor."""

SHORT_FORMS: Mapping[str, Callable[[object], object]] = {"reference": reference_section}
"""Keys whose section may be written as one value, and what it is short for: a change to one value keeps the others."""


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with the package, by bare name (`pixel_coredi`, `imagenet256/...`)."""
    return {name: path for name, path in _shipped().items() if not name.startswith(STUDIES)}


def shipped_studies() -> dict[str, Path]:
    """Return the studies that come with the package, by bare name (`studies/shapes`)."""
    return {name: path for name, path in _shipped().items() if name.startswith(STUDIES)}


def _shipped() -> dict[str, Path]:
    root = Path(str(files(__package__)))
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def recipe_name(path: Path) -> str:
    """Return the name of a recipe, which its runs and caches lie under: its file's, without folder and suffix.

    A recipe shipped in a sub-folder is named with it (`imagenet256-sit_b`): another folder may have one of its name.
    """
    root, resolved = Path(str(files(__package__))).resolve(), path.resolve()
    if not resolved.is_relative_to(root):
        return path.stem
    return "-".join(resolved.relative_to(root).with_suffix("").parts)


def find_recipe(name: str, beside: Path | None = None) -> Path:
    """Return the file of a recipe: a path (relative to a file's folder, if `beside` is one), or a shipped name.

    Raises:
        UserError: there is none; near names are listed.
    """
    path = (beside or Path()) / Path(name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_recipes()
    bare = name.removeprefix("recipes/").removesuffix(".yaml")
    if bare in shipped and name in (bare, f"{bare}.yaml", f"recipes/{bare}.yaml"):
        return shipped[bare]
    raise UserError(f"{name}: no such recipe{near_name(bare, shipped)} (shipped: {', '.join(shipped)})")


def read_layers(path: Path, overrides: Sequence[str]) -> Sourced:
    """Return a recipe file on top of its bases, with `key=value` overrides on top of that.

    Raises:
        UserError: a file that cannot be read, bases in a circle, or an override that is not `key=value`.
    """
    return override(_read_with_bases(path, ()), overrides)


def override(recipe: Sourced, overrides: Sequence[str]) -> Sourced:
    """Return a recipe with `key=value` overrides on top.

    Raises:
        UserError: an override that is not `key=value`.
    """
    for text in overrides:
        recipe = merge(recipe, _parse_override(text))
    return recipe


def merge(below: Sourced, above: Sourced) -> Sourced:
    """Return one mapping over another: mappings merge by key, everything else replaces.

    A part replaced by another (a bare name, or a different `name`) leaves nothing of the old one's settings.
    """
    places = dict(below.places)
    values = _merge(below.values, above.values, (), places)
    return Sourced(values, places | above.places)


def _merge(below: dict[str, Any], above: dict[str, Any], path: KeyPath, places: dict[KeyPath, str]) -> dict[str, Any]:
    values = dict(below)
    for key, new in above.items():
        here = (*path, key)
        old = values.get(key)
        if isinstance(new, dict):
            if isinstance(old, str) and "name" not in new and key in PARTS:
                old = {"name": old}
            elif key in SHORT_FORMS:
                old = SHORT_FORMS[key](old)
            if isinstance(old, dict) and new.get("name", old.get("name")) == old.get("name"):
                values[key] = _merge(old, new, here, places)
                continue
        for place in [place for place in places if place[: len(here)] == here]:
            del places[place]
        values[key] = new
    return values


def _read_with_bases(path: Path, above: tuple[Path, ...]) -> Sourced:
    resolved = path.resolve()
    if resolved in above:
        raise UserError(f"{_shown(path)}: base recipes in a circle: {' -> '.join(p.name for p in (*above, resolved))}")
    recipe = read_yaml(path, _shown(path))
    base = recipe.values.pop("base", None)
    if base is None:
        return recipe
    if not isinstance(base, str):
        raise UserError(f"{recipe.place(('base',))}: base: needs the name or path of a recipe")
    try:
        below = find_recipe(base, beside=path.parent)
    except UserError as error:
        raise UserError(f"{recipe.place(('base',))}: base: {error}") from None
    return merge(_read_with_bases(below, (*above, resolved)), recipe)


def _parse_override(text: str) -> Sourced:
    key, equals, value = text.partition("=")
    names = key.split(".")
    if not equals or not all(names):
        raise UserError(f"{COMMAND_LINE}: '{text}': an override is written key=value, as in encoder.name=shapes_vit")
    parsed = parse_value(value)
    nested: Any = parsed
    for name in reversed(names):
        nested = {name: nested}
    path: KeyPath = tuple(names)
    return Sourced(nested, {path[: length + 1]: COMMAND_LINE for length in range(len(path))})


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
