"""Why a run could not go on, where one line can say it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed

from .checkpointing.store import checkpoints
from .errors import RunFailed, system_line
from .run_folder import RunFolder


@contextmanager
def one_line_failures(folder: RunFolder) -> Iterator[None]:
    """Report in one line what fails around a run: a full disk, a process that dies, images that are gone.

    Raises:
        RunFailed: instead of the error, if one line says why.
    """
    try:
        yield
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise
        then = "; the same command goes on from there" if checkpoints(folder) else ""
        raise RunFailed(f"{reason}; {kept_by(folder)}{then}") from error


def kept_by(folder: RunFolder) -> str:
    """Return what a run that fails has kept."""
    kept = checkpoints(folder)
    return f"{kept[-1].name} is kept" if kept else "nothing is kept yet"


def reason_of(error: Exception) -> str | None:
    """Return in one line why a run could not go on; None for what only its traceback tells."""
    if _is_of_a_reader(error):
        return f"a process that reads images has died ({_first(error)}); too little memory is a common cause"
    if _is_of_another_process(error):
        return "another process of this run has ended or cannot be reached; its own last lines say why, if it had time"
    return system_line(error) if isinstance(error, OSError) else None


def _is_of_a_reader(error: Exception) -> bool:
    # torch tells of a dead worker wherever the process is just then, by an error without a type of its own.
    noticed = isinstance(error, RuntimeError) and "DataLoader worker" in str(error)
    return noticed or isinstance(error, ChildProcessError)


def _is_of_another_process(error: Exception) -> bool:
    # gloo raises plain errors, whose text begins with the file that they come from.
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "/gloo/" in str(error))


def _first(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".: ")
