"""Values as they are written, without quotes: the type of the field that takes one decides what it is."""

from __future__ import annotations

import re
from typing import Any

_DECIMAL = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
_WITH_BASE = re.compile(r"[-+]?0(x[0-9a-fA-F]+|o[0-7]+|b[01]+)")
_FLOAT = re.compile(r"[-+]?(([0-9]+(_[0-9]+)*)?\.[0-9]+|[0-9]+(_[0-9]+)*\.?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.?(inf|nan)", re.IGNORECASE)
_LONGEST_NUMBER = 400

BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
NULL = "null"


class Plain(str):
    """A scalar written without quotes, in a file or on the command line."""

    __slots__ = ()


def number(text: str) -> int | float | None:
    """Return the number that a text is, None if it is none.

    Numbers are decimal: `0100` is a hundred, `0o100` is octal, `1:30` is no number. `_` may separate digits.
    """
    if len(text) > _LONGEST_NUMBER:
        return None
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _WITH_BASE.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else None


def guessed(text: str) -> Any:
    """Return what a text looks like, where no field says what it is: null, a true/false value, a number or text."""
    if text in (NULL, ""):
        return None
    found = number(text)
    if found is not None:
        return found
    return {"true": True, "false": False}.get(text.lower(), str(text))
