"""The folder of one run: what lies where, and who may write into it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UserError

LOCK = ".lock"
RECIPE, ENVIRONMENT = "recipe.yaml", "environment.json"
BEGINNING = (RECIPE, ENVIRONMENT)
"""What is written before a folder is a run folder, which it is by its resolved recipe."""


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step: readers see the old text or the new, never half of it.

    Raises:
        OSError: it cannot be written; the old text stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def json_text(value: Any) -> str:
    """Return a value as indented JSON; NaN and infinity are refused."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; NaN and infinity are refused."""
    write_atomically(path, json_text(value))


def short_digest(value: Any) -> str:
    """Return six hex digits that tell JSON values apart in names of files and folders."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=3).hexdigest()


Values = dict[str, Any]
"""A recipe with every value, as JSON."""


def _as_it_is(recipe: Values) -> Values:
    return recipe


PLACED = ("devices", "num_nodes", "strategy")
"""Of a recipe's section `fabric`: where it is computed. A run stays the same run elsewhere, for nothing that is drawn
depends on it; sums may differ in their last digits."""


def same_run(one: Values, other: Values) -> bool:
    """Return whether two recipes are those of one run, wherever it is computed."""
    return _identity(one) == _identity(other)


def _identity(recipe: Values) -> Values:
    return {**recipe, "fabric": {key: value for key, value in recipe.get("fabric", {}).items() if key not in PLACED}}


class RunFolder:
    """Paths of one run folder.

    Args:
        complete: gives the recipe of an older run the values that there were not yet when it began.
    """

    def __init__(self, path: Path, complete: Callable[[Values], Values] = _as_it_is) -> None:
        self.path, self._complete = path, complete

    def at(self, path: Path) -> RunFolder:
        """Return the folder at another path."""
        return RunFolder(path, self._complete)

    @property
    def resolved(self) -> Path:
        """The recipe as resolved: every value that counts."""
        return self.path / "resolved.json"

    @property
    def data(self) -> Path:
        """What the data were when the run began (see `run_data`)."""
        return self.path / "data.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, a line a log step."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Folder of generated image grids."""
        return self.path / "samples"

    @property
    def semantics(self) -> Path:
        """Folder of pictures of the semantic stream."""
        return self.path / "semantics"

    @property
    def evaluation(self) -> Path:
        """Folder of scores with their protocols."""
        return self.path / "evaluation"

    @property
    def replays(self) -> Path:
        """Folder of steps that failed."""
        return self.path / "replay"

    @property
    def done(self) -> Path:
        """Exists once the run has ended."""
        return self.path / "done.json"

    def recipe(self) -> Values:
        """Return the resolved recipe of the run.

        Raises:
            UserError: the folder holds no run.
        """
        return self._complete(self._read()["recipe"])

    def note_place(self, recipe: Values) -> None:
        """Note where the run goes on, so that what is done with it later is done there, too; for who holds it alone."""
        values = self._read()
        noted = {**values["recipe"].get("fabric", {}), **{key: recipe["fabric"][key] for key in PLACED}}
        if noted != values["recipe"].get("fabric"):
            write_json(self.resolved, {**values, "recipe": {**values["recipe"], "fabric": noted}})

    def note_screen(self, rows: Mapping[str, str]) -> None:
        """Note what the start-up screen shows now: a run that was extended has other steps; for who holds it alone."""
        values = self._read()
        noted = {**values.get("resolved", {}), **rows}
        if noted != values.get("resolved"):
            write_json(self.resolved, {**values, "resolved": noted})

    def num_classes(self) -> int:
        """Return the number of classes of the data that the run was trained on.

        Raises:
            UserError: the folder holds no run.
        """
        return int(self._read()["num_classes"])

    def feed(self) -> str | None:
        """Return what the run's training batches began to come from, None before it began."""
        return self._read().get("feed") if self.resolved.is_file() else None

    def _read(self) -> Values:
        if not self.resolved.is_file():
            raise UserError(f"{self.path}: not a run folder (it has no resolved.json){self._runs_inside()}")
        values: Values = json.loads(self.resolved.read_text(encoding="utf-8"))
        return values

    def _runs_inside(self) -> str:
        inside = [path.parent.name for path in sorted(self.path.glob("*/resolved.json"))]
        return f"; runs in it: {', '.join(inside[-3:])}" if inside else "; 'latsem run' makes one, runs/RECIPE/NAME"

    @contextmanager
    def occupied(self, recipe: Values) -> Iterator[None]:
        """Keep every other process from training in this folder.

        The lock goes with the process that holds it, however that ends.

        Raises:
            UserError: another process trains here, or the folder was taken by a run of another recipe meanwhile.
        """
        from filelock import FileLock, Timeout  # noqa: PLC0415 - kept off the path to `list` and `show`

        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.path}: another process is training this run; wait for it, or train another with --name"
            ) from None
        try:
            if self.resolved.is_file():
                _refuse_other_run(self, recipe)
            yield
        finally:
            lock.release()


def folder_name(name: str) -> str:
    """Return a `--name` that leads nowhere else.

    Raises:
        UserError: it is no folder name.
    """
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise UserError(f"--name: '{name}' is not a folder name (letters, digits, '.', '_' and '-')")
    return name


def claim_folder(
    root: Path,
    recipe_name: str,
    recipe: Values,
    name: str | None,
    complete: Callable[[Values], Values] = _as_it_is,
) -> RunFolder:
    """Return the folder of this very recipe: the one it has already, or a new path (not created yet).

    Runs are functions of their recipe, so the same recipe again, on these devices or others, means the same run: it is
    continued, or done.

    Args:
        complete: gives the recipes of older runs the values that there were not yet when they began.

    Raises:
        UserError: `name` is no folder name, or is taken by a run of another recipe.
    """
    family = root / recipe_name
    if name is not None:
        folder = RunFolder(family / folder_name(name), complete)
        if folder.path.exists() and not _is_unused(folder.path):
            _refuse_other_run(folder, recipe)
        return folder
    for path in sorted(family.glob("*"), reverse=True):
        folder = RunFolder(path, complete)
        if folder.resolved.is_file() and same_run(folder.recipe(), recipe):
            return folder
    return RunFolder(family / _new_name(recipe), complete)


def _is_unused(path: Path) -> bool:
    """Return whether a folder holds no more than a run that ended before its first step."""
    return path.is_dir() and all(entry.name in BEGINNING or entry.name.startswith(".") for entry in path.iterdir())


def _new_name(recipe: Values) -> str:
    """Return the time and a digest of the recipe: runs that start in the same second are told apart by it."""
    return f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{short_digest(recipe)}"


def _refuse_other_run(folder: RunFolder, recipe: Values) -> None:
    if not folder.resolved.is_file():
        raise UserError(f"--name: {folder.path} exists and is not a run folder; choose another name")
    changed = differences(_identity(folder.recipe()), _identity(recipe))
    if not changed:
        return
    longer = [line for line in changed if line.startswith("train.steps: ")] == changed
    remedy = f"train it longer with --resume {folder.path} --extend steps=N, or " if longer else ""
    raise UserError(
        f"--name: {folder.path} belongs to a run of another recipe ({'; '.join(changed)}); {remedy}choose another name"
    )


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Return `key: old -> new` for every value that differs between two recipes."""
    if isinstance(old, dict) and isinstance(new, dict):
        rows = []
        for key in [*old, *(key for key in new if key not in old)]:
            rows += differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        return rows
    return [] if old == new else [f"{path}: {json.dumps(old)} -> {json.dumps(new)}"]
