"""The `latsem` command."""

from __future__ import annotations

import io
import sys
import threading
import warnings
from pathlib import Path

from .commands import call

IN_THE_WAY = (FileExistsError, IsADirectoryError, NotADirectoryError)
"""What the system says where something else lies in the place of a file or folder: the user's to move."""


def main() -> None:
    """Run a command. Exit codes: 2 for a mistake of the user, 1 for a run that failed, 128 + n for signal n."""
    from ..backends.errors import Interrupted, RunFailed, UserError, system_line  # noqa: PLC0415 - kept off the path to --help
    from ..backends.output import flush_output, write_error  # noqa: PLC0415

    warnings.formatwarning, threading.excepthook = _warning_line, _say_in_a_line
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names of files are shown with escapes where the locale has no letters for them.
            stream.reconfigure(errors="backslashreplace")
    try:
        call(sys.argv[1:])
    except UserError as error:
        for problem in error.problems:
            write_error(f"{problem}\n")
        sys.exit(2)
    except ValueError as error:
        from ..components.user_cache import NoHome  # noqa: PLC0415 - it loads pydantic, which --help does without

        if not isinstance(error, NoHome):
            raise
        write_error(f"{error}\n")
        sys.exit(2)
    except RunFailed as failure:
        write_error(f"{failure}\n")
        sys.exit(1)
    except OSError as error:
        write_error(f"{system_line(error)}\n")
        sys.exit(2 if isinstance(error, IN_THE_WAY) else 1)
    except Interrupted as interruption:
        write_error(f"{interruption}\n")
        sys.exit(128 + interruption.signal)
    finally:
        flush_output()


_in_full, _with_traceback = warnings.formatwarning, threading.excepthook


def _say_in_a_line(failure: threading.ExceptHookArgs) -> None:
    """Say in a line what the system refused a thread; what the main one makes of it comes after it."""
    from ..backends.errors import system_line  # noqa: PLC0415 - kept off the path to --help

    if isinstance(failure.exc_value, OSError):
        sys.stderr.write(f"{system_line(failure.exc_value)}\n")
    else:
        _with_traceback(failure)


def _warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning of ours as a line for its reader, and others' with the place in the code that they come from."""
    ours = Path(filename).is_relative_to(Path(__file__).parents[1]) and issubclass(category, UserWarning)
    return f"warning: {message}\n" if ours else _in_full(message, category, filename, lineno, line)
