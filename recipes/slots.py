"""What a field of a recipe takes, read from its annotation: a part, a section, a list, or scalars."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from ..components.registry import PartField, find
from ..components.settings import Settings
from .scalars import BOOLEANS, NULL, Plain, guessed, number


@dataclass(frozen=True)
class Slot:
    """What a place takes.

    Attributes:
        kind: the kind of part.
        usual: name of the part that is there if a recipe names none.
        section: settings that are no part.
        items: what a list holds.
        values: what a mapping with keys of its own holds.
        scalars: types of single values.
        options: texts that are accepted as they are.
        optional: whether it may be empty.
    """

    kind: str | None = None
    usual: str | None = None
    section: type[Settings] | None = None
    items: Slot | None = None
    values: Slot | None = None
    scalars: frozenset[type] = field(default_factory=frozenset)
    options: frozenset[Any] = field(default_factory=frozenset)
    optional: bool = False

    @property
    def structured(self) -> bool:
        """Whether more than a single value may be written here."""
        return any(each is not None for each in (self.kind, self.section, self.items, self.values))


ANYTHING = Slot()
"""A place of which nothing is known: an unknown key, or one below it."""


def slot_of(settings: type[Settings] | None, key: str) -> Slot:
    """Return what a key of some settings takes."""
    if settings is None or key not in settings.model_fields:
        return ANYTHING
    return _field_slot(settings, key)


@cache
def _field_slot(settings: type[Settings], key: str) -> Slot:
    info = settings.model_fields[key]
    slot = ANYTHING
    for option in (*_options(info.annotation), *info.metadata):
        slot = _with(slot, option)
    return replace(slot, usual=_usual(info)) if slot.kind else slot


def _usual(info: FieldInfo) -> str | None:
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    return default if isinstance(default, str) else getattr(default, "name", None)


def _options(annotation: Any) -> Iterator[Any]:
    """Yield the members of unions, and what annotates them."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        for argument in arguments:
            yield from _options(argument)
    elif origin is typing.Annotated:
        yield from _options(arguments[0])
        yield from arguments[1:]
    else:
        yield annotation


def _with(slot: Slot, option: Any) -> Slot:
    """Return a slot that takes one thing more."""
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if isinstance(option, PartField):
        return replace(slot, kind=option.kind, section=None)
    if option is type(None):
        return replace(slot, optional=True)
    if origin is typing.Literal:
        return replace(slot, options=slot.options | set(arguments))
    if origin in (list, tuple, set):
        return replace(slot, items=_all_of(arguments[0]))
    if origin is dict:
        return replace(slot, values=_all_of(arguments[1]))
    if isinstance(option, type) and issubclass(option, Settings):
        return replace(slot, section=option)
    if isinstance(option, type) and issubclass(option, bool | int | float | str | Path):
        return replace(slot, scalars=slot.scalars | {option})
    return slot


def _all_of(annotation: Any) -> Slot:
    slot = ANYTHING
    for option in _options(annotation):
        slot = _with(slot, option)
    return slot


def settings_of(kind: str, name: object) -> type[Settings] | None:
    """Return the settings of a part, None if there is none of that name."""
    try:
        return find(kind, name).settings if isinstance(name, str) else None
    except ValueError:
        return None


def read_scalar(value: Any, slot: Slot) -> Any:
    """Return a value by the type of its field, where it was written without quotes; others stay as they are.

    In this order: `null` where the field may be empty; one of its options; a number or a true/false value where it
    takes them; text. What fits nothing is what it looks like, for the schema to refuse.
    """
    if not isinstance(value, Plain):
        return value
    if slot.optional and value in (NULL, ""):
        return None
    if value in slot.options:
        return str(value)
    found = number(value) if slot.scalars & {int, float} else None
    if found is not None:
        return found
    if bool in slot.scalars and value.lower() in BOOLEANS:
        return BOOLEANS[value.lower()]
    if slot.options or any(issubclass(each, str | Path) for each in slot.scalars):
        return str(value)
    return guessed(value)
