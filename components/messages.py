"""Other people's errors in a line of ours."""

from __future__ import annotations

LONGEST = 200


def first_line(error: Exception) -> str:
    """Return the kind of an error and the first line of what it says, if it says anything."""
    said = str(error).strip().split("\n")[0][:LONGEST]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
