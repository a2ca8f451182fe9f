"""What a user did that cannot work; shown as plain lines, without a traceback."""

from __future__ import annotations

import signal


class RunFailed(Exception):  # noqa: N818
    """A run that could not go on, for a reason that one line can say; what it had kept is still there."""


class Interrupted(Exception):  # noqa: N818
    """The command was asked to stop and has kept what it had; the message says how to go on.

    Attributes:
        signal: number of the signal that asked.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal = int(number)


class UserError(Exception):
    """One or more problems, each a line: what, where, what to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def system_line(error: OSError) -> str:
    """Return what the system refused, and where, in one line."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
