"""Output that its reader has left: a terminal that was closed, a pipe whose other end is gone, a full disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import IO, Any

LOST = "the output cannot be written any more ({reason}); the command continues without it\n"


class LastingStream:
    """Writes to a stream until that fails, and drops what is written afterwards.

    Training, scoring and sampling keep what they compute in files: that a terminal was closed, or `tee` ended, is no
    reason to end them.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write or drop a text."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush or drop what was written."""
        self._attempt(self._stream.flush)

    def _attempt(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            drop_output(self._stream)
            write_error(f"warning: {LOST.format(reason=error.strerror or error)}")


def drop_output(stream: IO[str]) -> None:
    """Lead a stream's descriptor nowhere: what is left in its buffer would fail again when the process ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):
        # It has no descriptor, or a closed one.
        return


def write_error(text: str) -> None:
    """Write to the error stream, if there still is one."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return


def flush_output() -> None:
    """Flush the standard output as far as it can be written, so that the process ends with its own exit code."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        drop_output(sys.stdout)
