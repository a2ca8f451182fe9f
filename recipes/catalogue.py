"""What there is to choose from: parts by kind, recipes, and the settings of each."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from ..backends.errors import UserError
from ..components.registry import KINDS, Part, available, family_of, find_listed, find_unlisted, listed
from ..components.settings import Settings, near_name
from .comparing.study import find_study, read_study
from .layers import shipped_recipes, shipped_studies
from .plugins import is_plugins, load_plugins
from .recipe import load
from .schema import RecipeSettings

RECIPES, STUDIES = "recipes", "studies"
SHIPPED = {RECIPES: shipped_recipes, STUDIES: shipped_studies}
"""What is listed beside parts, and the files that come with the package."""

MISSPELT = 0.91
"""A name this close to one that is listed is taken for a slip of the pen: timm, which takes seconds, is not asked."""

Rows = list[tuple[str, str]]


def catalogue(
    kind: str | None = None, pattern: str | None = None, plugins: Sequence[str] = ()
) -> Iterator[tuple[str, Rows]]:
    """Yield titled lists of names and summaries, of one kind or of everything.

    Args:
        kind: one kind, or everything.
        plugins: `plugins=[FILE, ...]`, whose parts are listed, too; it may stand in the place of the others.
        pattern: with `*`, `?` or `[...]`: only names that it fits, of all that there are.

    Raises:
        UserError: an unknown kind, or a pattern that fits nothing.
    """
    words = [word for word in (kind, pattern, *plugins) if word is not None]
    load_plugins(list(filter(is_plugins, words)))
    kind, pattern = [*(word for word in words if not is_plugins(word)), None, None][:2]
    kinds = [*KINDS, *SHIPPED]
    wanted = _singular(kind) if kind else None
    if wanted and wanted not in kinds:
        raise UserError(f"{kind}: no such kind{near_name(kind or '', kinds)} (one of {', '.join(kinds)})")
    found = {each: _fitting(_rows(each, pattern), pattern) for each in (kinds if wanted is None else [wanted])}
    if not any(found.values()):
        raise UserError(f"{pattern}: nothing of that name{near_name(pattern or '', _names(wanted))}")
    yield from ((each, rows) for each, rows in found.items() if rows)


def _rows(kind: str, pattern: str | None) -> Rows:
    if kind in SHIPPED:
        return [(name, _header(path.read_text(encoding="utf-8"))) for name, path in SHIPPED[kind]().items()]
    family = family_of(kind)
    more = list(family.rows(pattern)) if family is not None else []
    return [*((name, part.summary) for name, part in available(kind).items()), *more]


def _fitting(rows: Rows, pattern: str | None) -> Rows:
    return rows if pattern is None else [row for row in rows if fnmatchcase(row[0], pattern)]


def _names(kind: str | None) -> list[str]:
    kinds = [*KINDS, *SHIPPED] if kind is None else [kind]
    return [name for each in kinds for name in (SHIPPED[each]() if each in SHIPPED else listed(each))]


def describe(what: str, overrides: Sequence[str] = ()) -> str:
    """Return what can be set of a part or a section; or a recipe or a study as YAML with every value.

    Args:
        what: a part (`coevolving`, `projection.coevolving`), a section or a key of one (`train`, `fabric.devices`), or
            a recipe or study by name or path; a recipe's data need not be there.

    Raises:
        UserError: there is nothing of that name.
    """
    load_plugins(list(filter(is_plugins, overrides)))
    named = {kind: find_listed(kind, what.removeprefix(f"{kind}.")) for kind in KINDS}
    parts = [part for part in named.values() if part is not None]
    changes = [change for change in overrides if not is_plugins(change)]
    if parts and not changes:
        return "\n\n".join(_describe_part(part) for part in parts)
    if what in KINDS:
        raise UserError(
            f"{what}: is a kind of part; 'latsem list {what}' lists its parts, 'latsem show PART' shows one"
        )
    section = _describe_section(what)
    if section and not changes:
        return section
    study = find_study(what)
    if study is not None and not changes:
        return _yaml(read_study(study).model_dump(mode="json"))
    try:
        return _yaml(load(what, overrides, data="unused").resolved())
    except UserError as error:
        if "no such recipe" not in str(error):
            raise
    return _describe_part(_unlisted(what))


def _yaml(values: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return text.rstrip()


def _unlisted(what: str) -> Part:
    """Return a part that only a family knows.

    Raises:
        UserError: there is none, or why it cannot be one.
    """
    names = [*_names(None), *_sections()]
    try:
        part = None if get_close_matches(what, names, n=1, cutoff=MISSPELT) else find_unlisted(_without_kind(what))
    except ValueError as error:
        raise UserError(str(error)) from None
    if part is None:
        near = near_name(what, names)
        for family in filter(None, map(family_of, KINDS if not near else ())):
            near = near or family.suggestion(what, ())
        raise UserError(f"{what}: no recipe and no part of that name{near}")
    return part


def _without_kind(what: str) -> str:
    kind, dot, name = what.partition(".")
    return name if dot and kind in KINDS else what


def _singular(kind: str) -> str:
    if kind in (*KINDS, *SHIPPED):
        return kind
    plurals = {folder.rpartition(".")[2]: name for name, folder in KINDS.items()}
    return plurals.get(kind, {"recipe": RECIPES, "study": STUDIES}.get(kind, kind.removesuffix("s")))


def _header(text: str) -> str:
    first = text.split("\n", 1)[0]
    return first.lstrip("# ").rstrip() if first.startswith("#") else ""


def _describe_part(part: Part) -> str:
    return _described(f"{part.kind} {part.name}", part.settings, list(_setting_rows(part.settings, "")))


def _sections() -> dict[str, type[Settings]]:
    """Return the sections of a recipe that are no parts, by name."""
    fields = {name: field.annotation for name, field in RecipeSettings.model_fields.items() if name not in KINDS}
    found = {name: _settings_in(annotation) for name, annotation in fields.items()}
    return {name: settings for name, settings in found.items() if settings is not None}


def _settings_in(annotation: Any) -> type[Settings] | None:
    """Return settings, or those that a mapping or a list holds."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    held = [_settings_in(option) for option in typing.get_args(annotation)]
    return next((settings for settings in held if settings is not None), None)


def _describe_section(what: str) -> str | None:
    """Return a section's settings, or those below a key of it (`evaluate.reference`); None if there is none."""
    name, _, key = what.partition(".")
    settings = _sections().get(name)
    if settings is None:
        return None
    rows = [row for row in _setting_rows(settings, "") if not key or f"{row[0]}.".startswith(f"{key}.")]
    if not rows:
        fields = [field for field, _, _ in _setting_rows(settings, "")]
        raise UserError(f"{what}: '{name}' has no such setting{near_name(key, fields)} (one of {', '.join(fields)})")
    return _described(f"section {what}", settings, rows)


def _described(title: str, settings: type[Settings], rows: Sequence[tuple[str, str, str]]) -> str:
    lines = [title, "", inspect.getdoc(settings) or ""]
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
    if isinstance(value, list) and any(isinstance(item, Settings) for item in value):
        return f"[{', '.join(map(_plain, value))}]"
    return yaml.safe_dump(to_jsonable_python(value), default_flow_style=True).removesuffix("...\n").strip()


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
