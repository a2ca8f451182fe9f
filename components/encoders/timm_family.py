"""Encoders by the names of timm: each becomes a part when it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache

from pydantic import create_model

from ..settings import near_name
from .settings import TimmSettings
from .timm_table import PACKAGES, SHORT_NAMES, Architecture, Package

OWN_MISSPELT = 0.91
"""A name this close to a short one is taken for a misspelt one; no name of timm is."""

OWN_WORDS = ("shapes", "random", "imagenet", "dinov2", "dinov3", "siglip2", "clip", "mae", "ijepa")
"""First words of names here; no name of timm begins with one, or with a word close to one."""

OWN_WORD_MISSPELT = 0.8


class TimmFamily:
    """Short names, and every name of timm."""

    elsewhere = "a pretrained one: latsem list encoders"

    def find(self, name: str) -> type[TimmSettings] | None:
        """Return the settings of a network by its short name, timm's, or a pattern that fits one alone.

        Raises:
            ValueError: several fit, or it gives no grid of features.
        """
        short = self.find_listed(name)
        if short is not None or self.own(name):
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

    def own(self, name: str) -> bool:
        """Return whether a name is meant to be one of those here, so that timm need not be asked."""
        word = name.partition("_")[0]
        return bool(
            get_close_matches(word, OWN_WORDS, n=1, cutoff=OWN_WORD_MISSPELT)
            or get_close_matches(name, self.names(), n=1, cutoff=OWN_MISSPELT)
        )

    def suggestion(self, name: str, parts: Collection[str]) -> str:
        """Return what may have been meant, for the end of a message."""
        near = near_name(name, [*parts, *self.names()])
        if not near and not self.own(name):
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
    return f"{each.model:<{width}}  {_shape(each)}  {each.parameters:>6.1f} M  {each.licence}"


def _shape(each: Architecture) -> str:
    first, last = each.stages[0], each.stages[-1]
    if each.plain:
        return f"patch {first.stride:<2}  width {first.width:<8}"
    return f"{len(each.stages)} stages  width {f'{first.width}-{last.width}':<8}"


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
        __doc__=_description(architecture, PACKAGES.get(name)),
    )
    settings.kind, settings.name, settings.architecture = "encoder", name, architecture
    settings.package = PACKAGES.get(name)
    return settings


def _description(each: Architecture, package: Package | None) -> str:
    source = "weights from the hub" if package is None else f"weights from the package {package.name}"
    first, size = each.stages[0], f"{each.parameters:g} M parameters"
    if each.plain:
        shape = f"{len(each.stages)} blocks, patch {first.stride}, width {first.width}"
        return f"Frozen {each.model}, {size}, {shape} ({each.licence}; {source})."
    lines = [f"Frozen {each.model}, {size}, {len(each.stages)} stages ({each.licence}; {source}).", ""]
    lines += [
        f"Stage {index}: {stage.width} channels, {_pixels(stage.stride)}." for index, stage in enumerate(each.stages)
    ]
    if package is not None:
        lines += ["", f"Images are normalised by mean 0.5 and std 0.5. The weights are {package.licence}:"]
        lines += [package.remedy()]
    return "\n".join(lines)


def _pixels(stride: int) -> str:
    return f"{stride}x{stride} pixels a feature" if stride else "no whole number of pixels a feature"
