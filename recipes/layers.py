"""Layers of a recipe: base files, the file itself, the command line. Later ones win, key by key."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..backends.errors import UserError
from ..backends.run_folder import RECIPE, RunFolder
from ..components.settings import near_name
from ..components.user_cache import NoHome, expanded
from .combining import combine
from .scalars import Plain
from .schema import RecipeSettings
from .yaml_reader import KeyPath, Sourced, read_yaml

COMMAND_LINE = "command line"
STUDIES = "studies/"

Layer = Sequence[Sourced]
"""What one file, or the command line, says: mappings of which the general one comes first."""

KEYS = ("base", *RecipeSettings.model_fields)
"""Keys of a recipe file."""


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
    """Return the name of a recipe, which its runs lie under: its file's, without folder and suffix.

    A recipe shipped in a sub-folder is named with it (`imagenet256-sit_b`): another folder may have one of its name.
    The recipe of a run has the name of the run's recipe: it is that of the same run.
    """
    root, resolved = Path(str(files(__package__))).resolve(), path.resolve()
    if resolved.name == RECIPE and RunFolder(resolved.parent).resolved.is_file():
        return resolved.parent.parent.name
    if not resolved.is_relative_to(root):
        return path.stem
    return "-".join(resolved.relative_to(root).with_suffix("").parts)


def find_recipe(name: str, beside: Path | None = None) -> Path:
    """Return the file of a recipe: a path (relative to a file's folder, if `beside` is one), or a shipped name.

    Raises:
        UserError: there is none; near names are listed.
    """
    try:
        path = (beside or Path()) / expanded(name)
        there, is_folder = path.exists(), path.is_dir()
    except NoHome as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}") from None
    if there and not is_folder:
        return path
    shipped = shipped_recipes()
    bare = name.removeprefix("recipes/").removesuffix(".yaml")
    if bare in shipped and name in (bare, f"{bare}.yaml", f"recipes/{bare}.yaml"):
        return shipped[bare]
    if there and RunFolder(path).resolved.is_file():
        raise UserError(f"{name}: is a run, not a recipe; its recipe is {RECIPE} in it, and --resume resumes it")
    if there:
        raise UserError(f"{name}: is a folder; a recipe is a YAML file")
    raise UserError(f"{name}: no such recipe{near_name(bare, shipped)} (shipped: {', '.join(shipped)})")


def read_layers(path: Path, overrides: Sequence[str]) -> Sourced:
    """Return a recipe file on top of its bases, with `key=value` overrides on top of that.

    Raises:
        UserError: a file that cannot be read, bases in a circle, or an override that is not `key=value`.
    """
    return combine([*file_layers(path), command_line(overrides)], RecipeSettings)


def override(recipe: Sourced, overrides: Sequence[str]) -> Sourced:
    """Return a recipe with `key=value` overrides on top.

    Raises:
        UserError: an override that is not `key=value`.
    """
    return combine([[recipe], command_line(overrides)], RecipeSettings)


def file_layers(path: Path) -> list[Layer]:
    """Return a recipe file and its bases, the lowest first.

    Raises:
        UserError: a file that cannot be read, or bases in a circle.
    """
    return _with_bases(path, ())


def _with_bases(path: Path, above: tuple[Path, ...]) -> list[Layer]:
    resolved = path.resolve()
    if resolved in above:
        raise UserError(f"{_shown(path)}: base recipes in a circle: {' -> '.join(p.name for p in (*above, resolved))}")
    recipe = read_yaml(path, _shown(path), KEYS)
    base = recipe.values.pop("base", None)
    if base is None:
        return [[recipe]]
    if not isinstance(base, str):
        raise UserError(f"{recipe.place(('base',))}: base: needs the name or path of a recipe")
    try:
        below = find_recipe(base, beside=path.parent)
    except UserError as error:
        raise UserError(f"{recipe.place(('base',))}: base: {error}") from None
    return [*_with_bases(below, (*above, resolved)), [recipe]]


def command_line(overrides: Sequence[str]) -> Layer:
    """Return `key=value` overrides as a layer: of a key that is there twice the last, and otherwise in no order.

    Raises:
        UserError: an override that is not `key=value`.
    """
    values: dict[tuple[str, ...], str] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        names = tuple(key.split("."))
        if not equals or not all(names):
            raise UserError(
                f"{COMMAND_LINE}: '{text}': an override is written key=value, as in encoder.name=shapes_vit"
            )
        values[names] = value
    # What is more special holds beside what is more general, whichever was written first.
    return [_nested(names, values[names]) for names in sorted(values, key=len)]


def _nested(names: tuple[str, ...], value: str) -> Sourced:
    nested: Any = Plain(value)
    for name in reversed(names):
        nested = {name: nested}
    path: KeyPath = names
    return Sourced(nested, {path[: length + 1]: COMMAND_LINE for length in range(len(path))})


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
