"""Encoders by the names of timm: each becomes a part when it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache

from pydantic import create_model

from ..settings import near_name
from .settings import TimmSettings
from .timm_table import SHORT_NAMES, Architecture

OWN_MISSPELT = 0.91
"""A name this close to a short one is taken for a slip of the pen; no name of timm is."""


class TimmFamily:
    """Short names, and every name of timm."""

    elsewhere = "a pretrained one: latsem list encoders"

    def find(self, name: str) -> type[TimmSettings] | None:
        """Return the settings of a network by its short name, timm's, or a pattern that fits one alone.

        Raises:
            ValueError: several fit, or it gives no grid of features.
        """
        short = self.find_listed(name)
        if short is not None or get_close_matches(name, self.names(), n=1, cutoff=OWN_MISSPELT):
            return short
        from . import timm_probe  # noqa: PLC0415 - it loads torch

        if set(name) & set("*?["):
            name = _only(name, timm_probe.matching(name))
        return _settings(name, timm_probe.probe(name)) if timm_probe.known(name) else None

    def find_listed(self, name: str) -> type[TimmSettings] | None:
        """Return the settings of a network that has a short name; timm is not asked."""
        return _settings(name, SHORT_NAMES[name]) if name in SHORT_NAMES else None

    def names(self) -> tuple[str, ...]:
        """Return the short names."""
        return tuple(SHORT_NAMES)

    def suggestion(self, name: str, parts: Collection[str]) -> str:
        """Return what may have been meant, for the end of a message."""
        near = near_name(name, parts) or near_name(name, self.names())
        if not near:
            from . import timm_probe  # noqa: PLC0415 - it loads torch

            near = near_name(name, timm_probe.names(), most=3)
        return near

    def rows(self, pattern: str | None) -> Iterator[tuple[str, str]]:
        """Yield short names and what is behind them; with a pattern, also timm's names that it fits."""
        width = max(len(each.model) for each in SHORT_NAMES.values())
        for name, each in SHORT_NAMES.items():
            if pattern is None or fnmatchcase(name, pattern):
                yield name, _row(each, width)
        if pattern is not None:
            from . import timm_probe  # noqa: PLC0415 - it loads torch

            yield from ((name, timm_probe.summary(name)) for name in timm_probe.matching(pattern))


def _row(each: Architecture, width: int) -> str:
    size = f"patch {each.stride:<2}  width {each.width:<4}  {each.parameters:>6.1f} M"
    return f"{each.model:<{width}}  {size}  {each.licence}"


def _only(pattern: str, found: list[str]) -> str:
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(f"no network of timm fits '{pattern}'")
    listed = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
    raise ValueError(f"'{pattern}' fits {len(found)} networks of timm ({listed}): say one of them")


@cache
def _settings(name: str, architecture: Architecture) -> type[TimmSettings]:
    """Return the settings of one network: those of all, with its name and shape."""
    settings = create_model(
        "TimmSettings",
        __base__=TimmSettings,
        __module__=TimmSettings.__module__,
        __doc__=(
            f"Frozen {architecture.model}, {architecture.parameters:g} M parameters, patch {architecture.stride}, "
            f"width {architecture.width} ({architecture.licence}; weights from the hub)."
        ),
    )
    settings.kind, settings.name, settings.architecture = "encoder", name, architecture
    return settings
