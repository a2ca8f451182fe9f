"""Names of parts: each kind maps names to settings, and settings to the class they build.

A part is registered by decorating its settings. Parts of this package name their class as a string, so
that looking at settings never imports torch; a plug-in may give the class itself:

    @register("projection", "mine", builds=MyProjection)
    class MySettings(ProjectionSettings): ...

Values in the settings come from a recipe. Everything else that the class needs (widths, grids, number of
classes) is derived by the program and handed over as keyword arguments when the part is built.
"""

from __future__ import annotations

import importlib
import inspect
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from .settings import Settings, near_name

BUILDING = threading.RLock()
"""Held while a part is built: initial weights come from torch's global generator, which threads would share."""

KINDS: Mapping[str, str] = {
    "data": "data",
    "tokenizer": "tokenizers",
    "encoder": "encoders",
    "projection": "projections",
    "denoiser": "denoisers",
    "attention": "denoisers.attention",
    "fusion": "denoisers.fusion",
    "process": "processes",
    "guidance": "guidance",
    "sampler": "samplers",
    "metric": "metrics",
    "extractor": "extractors",
}
"""Kind -> the sub-package that registers the parts of this project."""

ENTRY_POINT_GROUP = "latsem.components"

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Part:
    """One registered part.

    Attributes:
        kind: one of `KINDS`.
        name: what a recipe calls it.
        settings: its validated configuration.
        builds: the class, or `module:Class` relative to the module of the settings.
    """

    kind: str
    name: str
    settings: type[Settings]
    builds: str | Callable[..., Any]

    @property
    def summary(self) -> str:
        """First line of the settings' docstring."""
        return (inspect.getdoc(self.settings) or "").split("\n", 1)[0]

    def target(self) -> Callable[..., Any]:
        """Import the class that the settings build."""
        if not isinstance(self.builds, str):
            return self.builds
        target: Callable[..., Any] = _import(self.builds, self.settings.__module__)
        return target


class Family(Protocol):
    """Parts of a kind that are too many to be registered one by one; each is made when it is asked for.

    Attributes:
        elsewhere: what a message says of all of them, and the command that lists them.
    """

    elsewhere: str

    def find(self, name: str) -> type[Settings] | None:
        """Return the settings of a part, None if there is none of that name.

        Raises:
            ValueError: why it cannot be a part.
        """
        ...

    def find_listed(self, name: str) -> type[Settings] | None:
        """Return the same for the names that are listed, at once and without torch."""
        ...

    def names(self) -> tuple[str, ...]:
        """Return the names that are listed."""
        ...

    def suggestion(self, name: str, parts: Collection[str]) -> str:
        """Return which of all names may have been meant, or of the kind's parts, as `near_name` does."""
        ...

    def rows(self, pattern: str | None) -> Iterator[tuple[str, str]]:
        """Yield names and summaries: the listed ones, or every one that a pattern fits."""
        ...


_parts: dict[str, dict[str, Part]] = {kind: {} for kind in KINDS}
_families: dict[str, tuple[str, str, str]] = {}
"""Kind -> module that registered the family, the family, and what its parts build."""


def register(kind: str, name: str, *, builds: str | Callable[..., Any]) -> Callable[[type[S]], type[S]]:
    """Return a decorator that registers settings as the part `name` of a kind.

    Raises:
        ValueError: for an unknown kind, or a name that another part of the kind has already.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind '{kind}'{near_name(kind, KINDS)} (one of {', '.join(KINDS)})")

    def decorate(settings: type[S]) -> type[S]:
        taken = _parts[kind].get(name)
        if taken is not None and taken.settings.__qualname__ != settings.__qualname__:
            raise ValueError(f"{kind} '{name}' is registered already, by {taken.settings.__module__}")
        settings.kind, settings.name = kind, name
        _parts[kind][name] = Part(kind, name, settings, builds)
        return settings

    return decorate


def register_family(kind: str, *, family: str, builds: str) -> None:
    """Register a family of parts; both are `module:Class` relative to the kind's settings."""
    _families[kind] = (f"{__package__}.{KINDS[kind]}.settings", family, builds)


def _import(target: str, module: str) -> Any:
    """Import `module:attribute`, relative to the package of a module."""
    name, _, attribute = target.partition(":")
    return getattr(importlib.import_module(name, module.rpartition(".")[0]), attribute)


@cache
def family_of(kind: str) -> Family | None:
    """Return the family of a kind, if it has one."""
    _load_shipped(kind)
    if kind not in _families:
        return None
    module, family, _ = _families[kind]
    made: Family = _import(family, module)()
    return made


@cache
def _load_shipped(kind: str) -> None:
    importlib.import_module(f".{KINDS[kind]}.settings", __package__)


@cache
def _load_plugins() -> None:
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        entry.load()


def available(kind: str) -> dict[str, Part]:
    """Return the parts of a kind by name, shipped ones and plug-ins, sorted."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind '{kind}'{near_name(kind, KINDS)} (one of {', '.join(KINDS)})")
    _load_shipped(kind)
    _load_plugins()
    return dict(sorted(_parts[kind].items()))


def find(kind: str, name: str) -> Part:
    """Return one part.

    Raises:
        ValueError: names the near ones, or all, when there is none of that name.
    """
    parts, family = available(kind), family_of(kind)
    if name in parts:
        return parts[name]
    settings = family.find(name) if family is not None else None
    if settings is not None:
        return _member(settings)
    near = near_name(name, parts) if family is None else family.suggestion(name, parts)
    more = f", or {family.elsewhere}" if family is not None else ""
    raise ValueError(f"unknown {kind} '{name}'{near} (one of {', '.join(parts)}{more})")


def find_listed(kind: str, name: str) -> Part | None:
    """Return a part of those that are listed, at once and without torch; None if there is none of that name."""
    parts, family = available(kind), family_of(kind)
    settings = family.find_listed(name) if family is not None else None
    return parts.get(name) or (_member(settings) if settings is not None else None)


def find_unlisted(name: str) -> Part | None:
    """Return a part that only a family knows, of the kind that lists it; None if there is none of that name.

    Raises:
        ValueError: why it cannot be a part.
    """
    for family in filter(None, map(family_of, KINDS)):
        # A family that lists nothing is made of the parts of another kind.
        settings = family.find(name) if family.names() else None
        if settings is not None:
            return _member(settings)
    return None


def listed(kind: str) -> tuple[str, ...]:
    """Return every name of a kind that is listed."""
    family = family_of(kind)
    return (*available(kind), *(family.names() if family is not None else ()))


def _member(settings: type[Settings]) -> Part:
    return Part(settings.kind, settings.name, settings, _families[settings.kind][2])


def parse(kind: str, value: object) -> Settings:
    """Turn a recipe's value (a name, a mapping with a name, or settings) into validated settings.

    Raises:
        ValidationError: every problem inside the part, with its place.
        PydanticCustomError: when the value names no part.
    """
    if isinstance(value, Settings) and value.kind == kind:
        return value
    values = {"name": value} if isinstance(value, str) else value
    if not isinstance(values, dict):
        raise PydanticCustomError("part", f"needs the name of a {kind}, or a mapping with 'name'")
    if not isinstance(values.get("name"), str):
        raise PydanticCustomError("part", f"has no 'name' (one of {', '.join(available(kind))})")
    try:
        part = find(kind, values["name"])
    except ValueError as error:
        raise PydanticCustomError("part", str(error)) from None
    return part.settings.model_validate({key: item for key, item in values.items() if key != "name"})


@dataclass(frozen=True)
class PartField:
    """Annotation of a settings field that holds a part: `Annotated[EncoderSettings, PartField("encoder")]`."""

    kind: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate through the registry, so that the set of names stays open."""
        del source, handler
        return core_schema.no_info_plain_validator_function(lambda value: parse(self.kind, value))


def build(settings: Settings, **runtime: Any) -> Any:
    """Build the part that `settings` configure, handing over what the program derived; one thread at a time."""
    with BUILDING:
        return find(settings.kind, settings.name).target()(settings, **runtime)


def create(kind: str, name: str, **values: Any) -> Any:
    """Build a part by name: settings and runtime values together, told apart by the part's own declarations.

    Example: ``create("projection", "coevolving", channels=8, features=192)``.

    Raises:
        ValueError: for an unknown name or value, or (as `ValidationError`) an invalid setting.
    """
    part = find(kind, name)
    runtime = [key for key in inspect.signature(part.target()).parameters if key != "settings"]
    fields = part.settings.model_fields
    for key in values:
        if key not in fields and key not in runtime:
            raise ValueError(f"{kind} '{name}' takes no '{key}'{near_name(key, [*fields, *runtime])}")
    settings = part.settings.model_validate({key: item for key, item in values.items() if key in fields})
    return build(settings, **{key: item for key, item in values.items() if key not in fields})
