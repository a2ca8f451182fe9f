"""The folder of a run's checkpoints: which are there, which are whole, which go."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from ...components.user_cache import expanded
from ..errors import UserError
from ..files import Shape, Text, UnreadableFile, json_text, read_json, read_text
from ..run_folder import RunFolder
from ..tensor_files import sha256_of

STATE = "state.json"
BESIDE, RETIRED, DAMAGED = ".step-", ".old-step-", "damaged-step-"
_NAME = re.compile(r"step-(\d{8,})")


class StateShape(Shape):
    """What `state.json` contains: the step, and the checksum of each other file."""

    step: int
    sha256: dict[Text, Text]


def checkpoint_path(folder: RunFolder, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return folder.checkpoints / f"step-{step:08d}"


def checkpoints(folder: RunFolder) -> list[Path]:
    """Return complete checkpoints, oldest first."""
    found = [path for path in folder.checkpoints.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the step in a checkpoint's name."""
    return int(checkpoint.name.removeprefix("step-"))


def newest_checkpoint(folder: RunFolder) -> Path:
    """Return the newest complete checkpoint.

    Raises:
        UserError: there is none.
    """
    found = checkpoints(folder)
    if not found:
        raise UserError(f"{folder.path}: no checkpoint yet; let the run reach its first one")
    return found[-1]


def kept_checkpoint(folder: RunFolder, step: int | None) -> Path:
    """Return the checkpoint of a step, None: the newest.

    Raises:
        UserError: there is none.
    """
    if step is None:
        return newest_checkpoint(folder)
    found = {step_of(path): path for path in checkpoints(folder)}
    if step not in found:
        kept = ", ".join(map(str, found)) or "none"
        raise UserError(f"{folder.path}: has no checkpoint of step {step} (kept: {kept}; train.keep_every keeps more)")
    return found[step]


def checkpoint_at(path: Path) -> Path:
    """Return a checkpoint, or the newest one of a run.

    Raises:
        UserError: there is neither.
    """
    path = expanded(path)
    return path.resolve() if (path / STATE).is_file() else newest_checkpoint(RunFolder(path))


def damage(checkpoint: Path) -> str:
    """Return the first file of a checkpoint that is not as it was written, and what is wrong; empty if all are."""
    try:
        state = read_json(checkpoint / STATE, StateShape)
        sums: dict[str, str] = state["sha256"]
        # It holds no checksum of itself: its text must be the one that its values are written as.
        if read_text(checkpoint / STATE) != json_text(state) or state["step"] != step_of(checkpoint) or not sums:
            return f"{STATE} is damaged"
    except UnreadableFile:
        return f"{STATE} is missing or damaged"
    for name, expected in sums.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if sha256_of(path) != expected:
            return f"{name} is damaged"
    return ""


def verify(checkpoint: Path) -> None:
    """Compare every file with its checksum.

    Raises:
        UserError: names the first file that is missing or damaged.
    """
    found = damage(checkpoint)
    if found:
        raise UserError(f"{checkpoint}: {found}; 'latsem run' of the same recipe makes it again")


def remove_leftovers(folder: RunFolder) -> None:
    """Remove what processes left behind that were killed while they wrote; only for the one that holds the run."""
    for start in (BESIDE, RETIRED):
        for path in folder.checkpoints.glob(f"{start}*"):
            shutil.rmtree(path, ignore_errors=True)


def set_damaged_aside(folder: RunFolder, say: Callable[[str], None]) -> None:
    """Rename damaged checkpoints until the newest one is whole; only for the process that holds the run.

    Args:
        say: told about each of them.

    Raises:
        UserError: none is whole; they stay where they are.
    """
    damaged: list[tuple[Path, str]] = []
    for checkpoint in reversed(checkpoints(folder)):
        reason = damage(checkpoint)
        if not reason:
            break
        damaged.append((checkpoint, reason))
    else:
        lines = "; ".join(f"{checkpoint.name}: {reason}" for checkpoint, reason in damaged)
        raise UserError(f"{folder.checkpoints}: no checkpoint is whole ({lines}); remove the run folder to start again")
    for checkpoint, reason in damaged:
        say(f"{checkpoint.name}: {reason}; set aside as {_set_aside(checkpoint).name}")


def prune(folder: RunFolder, keep: int, keep_every: int) -> None:
    """Drop all but the newest `keep` checkpoints and those of every `keep_every` steps (0: none of them)."""
    for old in checkpoints(folder)[:-keep]:
        if not keep_every or step_of(old) % keep_every:
            retire(old)


def retire(checkpoint: Path) -> None:
    """Remove a checkpoint; killed half-way, what is left of it is no checkpoint."""
    gone = checkpoint.with_name(f"{RETIRED}{step_of(checkpoint):08d}")
    shutil.rmtree(gone, ignore_errors=True)
    checkpoint.rename(gone)
    shutil.rmtree(gone)


def _set_aside(checkpoint: Path) -> Path:
    name, number = f"{DAMAGED}{step_of(checkpoint):08d}", 1
    aside = checkpoint.with_name(name)
    while aside.exists():
        number += 1
        aside = checkpoint.with_name(f"{name}.{number}")
    return checkpoint.rename(aside)
