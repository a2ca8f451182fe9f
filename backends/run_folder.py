"""The folder of one run: what lies where, and who may write into it."""

from __future__ import annotations

import json
import re
import shlex
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from ..components.system_names import is_system_name
from .errors import UserError
from .files import MissingFile, Shape, Text, UnreadableFile, read_json, short_digest, write_json
from .run_lock import RunLock

RECIPE, ENVIRONMENT, DATA = "recipe.yaml", "environment.json", "data.json"
PLUGINS = "plugins"
"""Folder of the sources of the plug-ins that the run was trained with: to be looked at, never run by themselves."""

BEGINNING = (RECIPE, ENVIRONMENT, DATA, PLUGINS)
"""What is written before a folder is a run folder, which it is by its resolved recipe."""


Values = dict[str, Any]
"""A recipe with every value, as JSON."""


class _TrainShape(Shape):
    steps: int | None = None


class _PluginShape(Shape):
    file: Text
    sha256: Text | None = None


class _RecipeShape(Shape):
    train: _TrainShape = Field(default_factory=_TrainShape)
    fabric: dict[Text, Any] = Field(default_factory=dict)
    plugins: list[Text | _PluginShape] = Field(default_factory=list)


class ReportedShape(Shape):
    """What a report shows of `resolved.json`; older runs have less of it, imported ones say where they came from."""

    recipe: _RecipeShape = Field(default_factory=_RecipeShape)
    num_classes: int | None = Field(None, ge=0)
    feed: Text | None = None
    streams: dict[Text, dict[Text, Any]] = Field(default_factory=dict)
    resolved: dict[Text, Any] = Field(default_factory=dict)
    imported: dict[Text, Any] = Field(default_factory=dict)


class RunShape(ReportedShape):
    """What `resolved.json` contains at least."""

    recipe: _RecipeShape


class EnvironmentShape(Shape):
    """What `environment.json` contains."""

    versions: dict[Text, Any] = Field(default_factory=dict)


def _as_it_is(recipe: Values) -> Values:
    return recipe


PLACED: Mapping[str, tuple[str, ...]] = {"fabric": ("devices", "num_nodes", "strategy"), "train": ("workers",)}
"""By section of a recipe: where a run is computed and read. It stays the same run elsewhere, for nothing that is drawn
depends on it; with other devices sums may differ in their last digits."""


CHANGED = "changed"
"""The row of the start-up screen that holds the changes of the command line."""


def same_run(one: Values, other: Values) -> bool:
    """Return whether two recipes are those of one run, wherever it is computed."""
    return identity(one) == identity(other)


def identity(recipe: Values) -> Values:
    """Return what makes a run the run it is: not where it is computed, and of plug-ins not where they lie."""
    sections = {
        section: {key: value for key, value in recipe.get(section, {}).items() if key not in keys}
        for section, keys in PLACED.items()
    }
    plugins = [_plugin(plugin) for plugin in recipe.get("plugins", ())]
    return {**recipe, **sections, "plugins": plugins}


def _plugin(plugin: Any) -> Any:
    """Return the digest of a plug-in, of one of an older run its name."""
    return plugin.get("sha256") or Path(plugin["file"]).name if isinstance(plugin, dict) else plugin


def _with_steps(changes: str, steps: int) -> str:
    """Return the row of what was changed on the command line, for a run of more steps."""
    others = [word for word in shlex.split(changes) if not word.startswith("train.steps=")]
    return shlex.join([*others, f"train.steps={steps}"])


class RunFolder:
    """Paths of one run folder.

    Args:
        complete: gives the recipe of an older run the values that there were not yet when it began.
    """

    def __init__(self, path: Path, complete: Callable[[Values], Values] = _as_it_is) -> None:
        self.path, self._complete, self._lock = path, complete, RunLock(path)

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
        return self.path / DATA

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

    def belongs_to(self, recipe: Values) -> bool:
        """Return whether this is the run of a recipe; one that cannot be read is none, and is warned of."""
        try:
            return self.resolved.is_file() and same_run(self.recipe(), recipe)
        except UnreadableFile as error:
            warnings.warn(f"{error}; this run is left out", stacklevel=2)
            return False

    def written_by(self) -> str | None:
        """Return the version of latsem that began the run, None if that is not known."""
        try:
            found = read_json(self.path / ENVIRONMENT, EnvironmentShape).get("versions", {}).get("latsem")
        except UnreadableFile:
            return None
        return found if isinstance(found, str) else None

    def note_place(self, recipe: Values) -> None:
        """Note where the run goes on, so that what is done with it later is done there, too; for who holds it alone."""
        values = self._read()
        noted = dict(values["recipe"])
        for section, keys in PLACED.items():
            now = recipe.get(section, {})
            noted[section] = {**noted.get(section, {}), **{key: now[key] for key in keys if key in now}}
        if noted != values["recipe"]:
            write_json(self.resolved, {**values, "recipe": noted})

    def note_screen(self, rows: Mapping[str, str]) -> None:
        """Note what the start-up screen shows now: a run that was extended has other steps; for who holds it alone."""
        values = self._read()
        noted = {**values.get("resolved", {}), **rows}
        if noted != values.get("resolved"):
            write_json(self.resolved, {**values, "resolved": noted})

    def become(self, recipe: Values) -> None:
        """Make this the run of a recipe of more steps, or of data at another place; for who holds it alone."""
        values, steps = self._read(), recipe["train"]["steps"]
        rows = dict(values.get("resolved", {}))
        if steps > values["recipe"]["train"]["steps"]:
            # In this order: a run of more steps must not look done.
            self.done.unlink(missing_ok=True)
            if CHANGED in rows:
                rows[CHANGED] = _with_steps(rows[CHANGED], steps)
        write_json(self.resolved, {**values, "recipe": recipe, "resolved": rows})

    def num_classes(self) -> int:
        """Return the number of classes of the data that the run was trained on.

        Raises:
            UserError: the folder holds no run.
        """
        found = self._read().get("num_classes")
        if found is None:
            raise UserError(f"{self.resolved}: damaged (num_classes is missing)")
        return int(found)

    def feed(self) -> str | None:
        """Return what the run's training batches began to come from, None before it began."""
        return self._read().get("feed") if self.resolved.is_file() else None

    def _read(self) -> Values:
        try:
            return read_json(self.resolved, RunShape)
        except MissingFile:
            raise UserError(f"{self.path}: not a run folder (it has no resolved.json){self._runs_inside()}") from None

    def _runs_inside(self) -> str:
        inside = [path.parent.name for path in sorted(self.path.glob("*/resolved.json"))]
        return f"; runs in it: {', '.join(inside[-3:])}" if inside else "; 'latsem run' makes one, runs/RECIPE/NAME"

    @contextmanager
    def occupied(self, recipe: Values) -> Iterator[None]:
        """Keep every other process from training in this folder.

        Raises:
            UserError: another process trains here, or the folder was taken by a run of another recipe meanwhile.
        """
        with self._lock.held():
            if self.resolved.is_file():
                _refuse_other_run(self, recipe)
            yield

    def require_held(self) -> None:
        """Check before a write, while this process trains here, that the folder is still the one that it locked.

        Raises:
            RunFailed: it was removed, or replaced by that of another run.
        """
        self._lock.require()


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
        if folder.belongs_to(recipe):
            return folder
    return RunFolder(family / _new_name(recipe), complete)


def _is_unused(path: Path) -> bool:
    """Return whether a folder holds no more than a run that ended before its first step."""
    return path.is_dir() and all(entry.name in BEGINNING or is_system_name(entry.name) for entry in path.iterdir())


def _new_name(recipe: Values) -> str:
    """Return the time and a digest of the recipe: runs that start in the same second are told apart by it."""
    return f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{short_digest(recipe)}"


def _refuse_other_run(folder: RunFolder, recipe: Values) -> None:
    if not folder.resolved.is_file():
        raise UserError(f"--name: {folder.path} exists and is not a run folder; choose another name")
    changed = differences(identity(folder.recipe()), identity(recipe))
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
