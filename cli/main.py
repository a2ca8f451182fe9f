"""The `latsem` command."""

from __future__ import annotations

import sys
import threading
import warnings
from pathlib import Path

import typer

from .commands import Commands, add_outlines

EXAMPLES = """
Examples:

\b
  latsem run pixel_coredi encoder=shapes_dino
  latsem run pixel_coredi data=folder data.root=photos train.steps=2000
  latsem check imagenet256/latent_redi_xl fabric.devices=8
  latsem sample runs/pixel_coredi/NAME -n 64 guidance.scale=3
  latsem compare pixel_jit pixel_coredi --seeds 3

'latsem COMMAND --help' says what a command takes.
"""

app = typer.Typer(
    name="latsem",
    cls=Commands,
    help="Joint image-feature diffusion: denoise images together with what they mean.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Boxes and colours would take twice the time of all the rest.
    rich_markup_mode=None,
)
add_outlines(app)


def main() -> None:
    """Run a command. Exit codes: 2 for a mistake of the user, 1 for a run that failed, 128 + n for signal n."""
    from ..backends.errors import Interrupted, RunFailed, UserError, system_line  # noqa: PLC0415 - kept off the path to --help

    warnings.formatwarning, threading.excepthook = _warning_line, _say_in_a_line
    try:
        app()
    except UserError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        sys.exit(2)
    except RunFailed as failure:
        sys.stderr.write(f"{failure}\n")
        sys.exit(1)
    except OSError as error:
        sys.stderr.write(f"{system_line(error)}\n")
        sys.exit(1)
    except Interrupted as interruption:
        sys.stderr.write(f"{interruption}\n")
        sys.exit(128 + interruption.signal)


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
