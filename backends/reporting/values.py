"""JSON values as rows that a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fact:
    """A name and what it is."""

    name: str
    value: str


def facts(values: Mapping[str, Any]) -> list[Fact]:
    """Return the values of a JSON object, one row each."""
    return [Fact(name.replace("_", " "), plain(value)) for name, value in values.items()]


def plain(value: Any) -> str:
    """Return a JSON value as text: a part as its name and settings, a list with commas."""
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, Mapping):
        rest = [f"{key} {_inner(inner)}" for key, inner in value.items() if key != "name"]
        return ", ".join([str(value["name"]), *rest] if "name" in value else rest)
    if isinstance(value, list):
        return ", ".join(_inner(inner) for inner in value)
    return str(value)


def _inner(value: Any) -> str:
    text = plain(value)
    return f"({text})" if isinstance(value, (Mapping, list)) and len(value) > 1 else text
