"""Other people's errors in a line of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 200
NAMED = 3


def first_line(error: Exception) -> str:
    """Return the kind of an error and the first line of what it says, if it says anything."""
    said = str(error).strip().split("\n")[0][:LONGEST]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def first_differing(error: Exception) -> str:
    """Return the first names in what torch says of weights that do not fit."""
    text = str(error)
    found = re.findall(r"size mismatch for ([\w.]+)", text) + re.findall(r'"([\w.]+)"', text)
    shown = ", ".join(found[:NAMED]) or first_line(error)
    return f"first to differ: {shown}" + (" ..." if len(found) > NAMED else "")


def printable(text: str) -> str:
    """Return text with escapes for what a terminal, a log or UTF-8 cannot take: lone bytes of file names, line ends."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def named(names: Sequence[str], most: int = NAMED) -> str:
    """Return the first names and how many more there are."""
    more = len(names) - most
    return ", ".join(map(printable, names[:most])) + (f" and {more:,} more" if more > 0 else "")
