"""Names of shards, as they are written in a recipe: brace ranges and globs, of files and of addresses."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from ..user_cache import expanded

LARGEST_LIST = 1_000_000
"""Shards that one pattern may stand for; more is a slip of the keyboard."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def expand_braces(pattern: str) -> list[str]:
    """Return what a pattern stands for: `{000..012}` counts at its own width, `{a,b}` lists.

    Raises:
        ValueError: a brace without its other half, a range that goes down, or too many names.
    """
    pieces = _BRACES.split(pattern)
    if any("{" in piece or "}" in piece for piece in pieces):
        raise ValueError(f"'{pattern}' has a brace without its other half")
    choices = [[piece] if number % 2 == 0 else _alternatives(piece, pattern) for number, piece in enumerate(pieces)]
    total = 1
    for options in choices:
        total *= len(options)
    if total > LARGEST_LIST:
        raise ValueError(f"'{pattern}' stands for {total:,} shards")
    return ["".join(parts) for parts in product(*choices)]


def _alternatives(inside: str, pattern: str) -> list[str]:
    counted = _RANGE.fullmatch(inside)
    if counted is None:
        return inside.split(",")
    first, last = counted.groups()
    if not 0 <= int(last) - int(first) <= LARGEST_LIST:
        raise ValueError(f"'{pattern}': {{{inside}}} does not count up to at most {LARGEST_LIST:,}")
    width = len(first) if first.startswith("0") or len(first) == len(last) else 0
    return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]


def is_address(shard: str) -> bool:
    """Return whether a shard is fetched (`https://...`, `hf://...`, `s3://...`) instead of opened where it lies."""
    return _ADDRESS.match(shard) is not None


def local_files(pattern: str) -> list[Path]:
    """Return the files that a pattern without braces stands for, sorted; none if there are none."""
    path = expanded(pattern)
    if path.is_file():
        return [path]
    return [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()]  # noqa: PTH207


def expand_all(patterns: Iterable[str]) -> list[str]:
    """Return all patterns without their braces.

    Raises:
        ValueError: as `expand_braces`.
    """
    return [shard for pattern in patterns for shard in expand_braces(pattern)]
