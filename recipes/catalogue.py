"""What there is to choose from: parts by kind, recipes, and the settings of each."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from ..backends.errors import UserError
from ..components.registry import KINDS, Part, available, family_of, find_listed, listed
from ..components.settings import Settings, near_name
from .layers import shipped_recipes
from .recipe import load

RECIPES = "recipes"
Rows = list[tuple[str, str]]


def catalogue(kind: str | None, pattern: str | None = None) -> Iterator[tuple[str, Rows]]:
    """Yield titled lists of names and summaries, of one kind or of everything.

    Args:
        kind: one kind, or everything.
        pattern: with `*`, `?` or `[...]`: only names that it fits, of all that there are.

    Raises:
        UserError: an unknown kind, or a pattern that fits nothing.
    """
    kinds = [*KINDS, RECIPES]
    wanted = _singular(kind) if kind else None
    if wanted and wanted not in kinds:
        raise UserError(f"{kind}: no such kind{near_name(kind or '', kinds)} (one of {', '.join(kinds)})")
    found = {each: _fitting(_rows(each, pattern), pattern) for each in (kinds if wanted is None else [wanted])}
    if not any(found.values()):
        raise UserError(f"{pattern}: nothing of that name{near_name(pattern or '', _names(wanted))}")
    yield from ((each, rows) for each, rows in found.items() if rows)


def _rows(kind: str, pattern: str | None) -> Rows:
    if kind == RECIPES:
        return [(name, _header(path.read_text(encoding="utf-8"))) for name, path in shipped_recipes().items()]
    family = family_of(kind)
    more = list(family.rows(pattern)) if family is not None else []
    return [*((name, part.summary) for name, part in available(kind).items()), *more]


def _fitting(rows: Rows, pattern: str | None) -> Rows:
    return rows if pattern is None else [row for row in rows if fnmatchcase(row[0], pattern)]


def _names(kind: str | None) -> list[str]:
    kinds = [*KINDS, RECIPES] if kind is None else [kind]
    return [name for each in kinds for name in (shipped_recipes() if each == RECIPES else listed(each))]


def describe(what: str, overrides: Sequence[str] = ()) -> str:
    """Return a recipe as YAML with every value, or the settings of a part (`coevolving`, `projection.coevolving`).

    Raises:
        UserError: there is no recipe and no part of that name.
    """
    named = {kind: find_listed(kind, what.removeprefix(f"{kind}.")) for kind in KINDS}
    parts = [part for part in named.values() if part is not None]
    if parts and not overrides:
        return "\n\n".join(_describe_part(part) for part in parts)
    try:
        recipe = load(what, overrides)
    except UserError as error:
        names = [name for kind in KINDS for name in listed(kind)]
        if "no such recipe" in str(error):
            raise UserError(f"{what}: no recipe and no part of that name{near_name(what, names)}") from None
        raise
    text: str = yaml.safe_dump(recipe.resolved(), sort_keys=False, allow_unicode=True, default_flow_style=None)
    return text.rstrip()


def _singular(kind: str) -> str:
    if kind in (*KINDS, RECIPES):
        return kind
    plurals = {folder.rpartition(".")[2]: name for name, folder in KINDS.items()}
    return plurals.get(kind, RECIPES if kind == "recipe" else kind.removesuffix("s"))


def _header(text: str) -> str:
    first = text.split("\n", 1)[0]
    return first.lstrip("# ").rstrip() if first.startswith("#") else ""


def _describe_part(part: Part) -> str:
    lines = [f"{part.kind} {part.name}", "", inspect.getdoc(part.settings) or ""]
    rows = list(_setting_rows(part.settings, ""))
    if rows:
        lines += ["", "settings:"]
        width = max(len(name) for name, _, _ in rows)
        middle = max(len(kind) for _, kind, _ in rows)
        lines += [f"  {name:<{width}}  {kind:<{middle}}  {text}".rstrip() for name, kind, text in rows]
    return "\n".join(lines)


def _setting_rows(settings: type[Settings], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in settings.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, Settings) and not field.metadata:
            yield from _setting_rows(nested, f"{prefix}{name}.")
            continue
        default = (
            "required" if field.is_required() else f"default {_plain(field.get_default(call_default_factory=True))}"
        )
        yield f"{prefix}{name}", f"{_type_name(field)}, {default}", field.description or ""


def _plain(value: Any) -> str:
    if isinstance(value, Settings):
        return value.name
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def _type_name(field: FieldInfo) -> str:
    bounds = [f"{sign} {getattr(m, key)}" for m in field.metadata for key, sign in _BOUNDS.items() if hasattr(m, key)]
    return ", ".join([_annotation_name(field.annotation), *bounds])


_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def _annotation_name(annotation: Any) -> str:
    origin, options = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return "|".join(map(str, options))
    if origin in (typing.Union, types.UnionType):
        return "|".join(_annotation_name(option) for option in options)
    if origin is typing.Annotated:
        return _annotation_name(options[0])
    if annotation is type(None):
        return "null"
    if origin is list:
        return f"[{_annotation_name(options[0])}, ...]"
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return "part"
    return getattr(annotation, "__name__", str(annotation))
