"""What a run folder holds, read with whatever is there at the moment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from ..evaluation.protocol import follows
from ..evaluation.records import ScoresShape
from ..files import MissingFile, Shape, UnreadableFile, read_json, read_text, short_digest
from ..log import read_log
from ..run_folder import ENVIRONMENT, RECIPE, EnvironmentShape, ReportedShape, RunFolder

LogLine = Mapping[str, Any]
SCORE = "score/"
"""What the names of scores begin with in a log."""

SEMANTIC_HEALTH = "semantic/"
FIXED = "_fixed"
"""What the names of figures of the semantic stream begin with, and those of the fixed projection beside it end with."""


class DoneShape(Shape):
    """What `done.json` contains."""

    step: int = Field(ge=0)


@dataclass(frozen=True)
class Record:
    """One file of `evaluation/`.

    Attributes:
        better: metric -> "lower" or "higher"; empty in records of before it was written.
        protocol: everything that the scores depend on, apart from the model.
        digest: tells protocols apart.
        own: whether the recipe's own protocol made it; else it was scored by another.
        logged: whether the run's log has the same scores at this step.
    """

    step: int
    scores: Mapping[str, float | None]
    better: Mapping[str, str]
    protocol: Mapping[str, Any]
    digest: str
    own: bool
    logged: bool = False

    @property
    def rank(self) -> tuple[bool, int, bool, int]:
        """What a headline is chosen by: the recipe's own protocol, the newest step, what the run logged, references."""
        reference = self.protocol.get("reference") or {}
        return self.own, self.step, self.logged, int(reference.get("images") or 0)


@dataclass
class RunFiles:
    """The contents of a run folder; what is not there is empty.

    Attributes:
        unreadable: names of files that are there and damaged.
    """

    folder: Path
    done: dict[str, Any] = field(default_factory=dict)
    resolved: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    recipe_text: str = ""
    log: list[LogLine] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    samples: dict[int, Path] = field(default_factory=dict)
    semantics: dict[int, Path] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    @property
    def step(self) -> int:
        """The last step that anything in the folder knows of."""
        known = [int(self.done.get("step", 0)), *(int(line["step"]) for line in self.log[-1:])]
        known += [record.step for record in self.records]
        known += [*self.samples, *self.semantics, *numbered(self.folder / "checkpoints", "")]
        return max(known)

    @property
    def steps(self) -> int | None:
        """The steps that the recipe asks for, if that is known."""
        found = self.recipe.get("train", {}).get("steps")
        return int(found) if found is not None else None

    @property
    def recipe(self) -> dict[str, Any]:
        """The resolved recipe."""
        found: dict[str, Any] = self.resolved.get("recipe", {})
        return found


def read_run(folder: Path) -> RunFiles:
    """Read a run folder, at any moment of a run."""
    where = RunFolder(folder)
    files = RunFiles(folder)
    files.done = _json(files, where.done, DoneShape)
    files.resolved = _json(files, where.resolved, ReportedShape)
    files.environment = _json(files, folder / ENVIRONMENT, EnvironmentShape)
    files.recipe_text = _text(files, folder / RECIPE)
    files.log = _log(files, where.metrics)
    files.records = [record for path in sorted(where.evaluation.glob("*.json")) for record in _record(files, path)]
    files.samples, files.semantics = numbered(where.samples, ".png"), numbered(where.semantics, ".png")
    return files


def numbered(folder: Path, suffix: str) -> dict[int, Path]:
    """Return `step-*` of a folder by step, in order."""
    found = {path: re.fullmatch(rf"step-(\d+){re.escape(suffix)}", path.name) for path in folder.glob("step-*")}
    return dict(sorted((int(match[1]), path) for path, match in found.items() if match))


def _text(files: RunFiles, path: Path) -> str:
    try:
        return read_text(path)
    except MissingFile:
        return ""
    except UnreadableFile:
        files.unreadable.append(path.name)
        return ""


def _json(files: RunFiles, path: Path, shape: type[Shape]) -> dict[str, Any]:
    try:
        return read_json(path, shape)
    except MissingFile:
        return {}
    except UnreadableFile:
        files.unreadable.append(path.name)
        return {}


def _record(files: RunFiles, path: Path) -> list[Record]:
    values = _json(files, path, ScoresShape)
    if not values:
        return []
    protocol = values.get("protocol", {})
    digest = str(values.get("hash") or short_digest(protocol))
    step, scores = int(values["step"]), values["scores"]
    line = next((line for line in files.log if line["step"] == step), {})
    logged = all(line.get(f"{SCORE}{name}") == value for name, value in scores.items())
    own = follows(protocol, files.recipe) if "evaluate" in files.recipe else path.name.startswith("step-")
    return [Record(step, scores, values.get("better", {}), protocol, digest, own, logged)]


def _log(files: RunFiles, path: Path) -> list[LogLine]:
    """Return the lines of the log by step; of two lines of one step the later counts."""
    try:
        found = read_log(path)
    except UnreadableFile:
        files.unreadable.append(path.name)
        return []
    if found.damaged:
        files.unreadable.append(path.name)
    lines = {int(line["step"]): line for line in found.objects}
    return [lines[step] for step in sorted(lines)]
