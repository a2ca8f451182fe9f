"""What Ctrl-C says of commands that keep what they have computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def goes_on() -> Iterator[None]:
    """Say that the same command goes on from where it was stopped.

    Raises:
        Interrupted: instead of `KeyboardInterrupt`.
    """
    from ..backends.errors import Interrupted  # noqa: PLC0415 - kept off the path to --help

    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("stopped; the same command goes on from there") from None
