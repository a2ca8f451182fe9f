"""`report.html` of a run folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ...components.messages import first_line
from ...components.registry import KINDS
from ..command_line import command, plugin_words
from ..console import RunConsole
from ..files import MissingFile, UnreadableFile, write_atomically
from ..shown import relative
from .charts import Chart
from .curves import logged, training_charts
from .embedding import SMALLER, WIDEST, Picture, embed, embedded_height
from .page import FILE, render
from .run_files import SCORE, RunFiles, read_run
from .scores import ScoreGroup, score_charts, score_groups
from .values import Fact, facts

EARLIER = 8
"""Earlier pictures of a kind, evenly spaced: a long run draws hundreds."""
TALLEST = 6000
"""Pixels: a picture of more rows than a person looks at, and than the page has room for."""


def write_run_report(folder: Path) -> Path:
    """Write `report.html` of a run folder from its files, atomically, and return its path.

    It can be written at any moment of a run, with whatever files are there.

    Raises:
        OSError: the file cannot be written.
    """
    path = folder / FILE
    write_atomically(path, render("run.html", **vars(run_view(read_run(folder)))))
    return path


def refresh_run_report(folder: Path, console: RunConsole) -> Path | None:
    """Write the report of a run that is being trained; what goes wrong costs a line of warning, and never the run."""
    try:
        return write_run_report(folder)
    except Exception as error:  # Its files may have been touched by anybody.
        console.warn(f"{relative(folder / FILE)} was not written: {first_line(error)}")
        return None


@dataclass(frozen=True)
class RunView:
    """What the template shows of a run."""

    recipe_name: str
    run_name: str
    step: int
    steps: int | None
    finished: bool
    imported: bool
    parts: list[Fact]
    screen: list[Fact]
    scores: list[ScoreGroup]
    score_charts: list[Chart]
    training_charts: list[Chart]
    samples: Picture | None
    earlier_samples: list[Picture]
    evolution: Picture | None
    semantics: list[Picture]
    recipe_yaml: str
    recipe_text: str
    environment: list[Fact]
    versions: list[Fact]
    commands: list[str]
    unreadable: list[str]


def run_view(files: RunFiles) -> RunView:
    """Return what the report of a run shows."""
    folder = files.folder.resolve()
    groups = score_groups(files.records)
    samples = _pictures(files, files.samples, "Samples", "Grid of generated images")
    semantics = _pictures(files, files.semantics, "Semantics", "Images, and under each its semantic stream as colours")
    environment = dict(files.environment)
    versions: Mapping[str, Any] = environment.pop("versions", {})
    screen = files.resolved.get("resolved") or files.resolved.get("imported", {})
    return RunView(
        recipe_name=folder.parent.name,
        run_name=folder.name,
        step=files.step,
        steps=files.steps,
        finished=bool(files.done),
        imported="imported" in files.resolved,
        parts=[Fact(kind, str(part["name"])) for kind, part in files.recipe.items() if _is_part(kind, part)],
        screen=facts(screen),
        scores=groups,
        score_charts=score_charts(groups) or _logged_scores(files),
        training_charts=training_charts(files.log, files.resolved.get("streams", {})),
        samples=samples[-1] if samples else None,
        earlier_samples=samples[-2::-1],
        evolution=_evolution(files),
        semantics=semantics[::-1],
        recipe_yaml=yaml.safe_dump(files.recipe, sort_keys=False, allow_unicode=True) if files.recipe else "",
        recipe_text=files.recipe_text,
        environment=facts(environment),
        versions=facts({name: version for name, version in versions.items() if version}),
        commands=_commands(screen.get("run folder", f"{folder.parent.name}/{folder.name}"), files),
        unreadable=files.unreadable,
    )


def _is_part(kind: str, value: Any) -> bool:
    return kind in KINDS and isinstance(value, Mapping) and "name" in value


def _logged_scores(files: RunFiles) -> list[Chart]:
    """Return the scores that only the log knows."""
    names = dict.fromkeys(name for line in files.log for name in line if name.startswith(SCORE))
    return [Chart(name, name.removeprefix(SCORE), [logged(files.log, name)]) for name in names]


def _pictures(files: RunFiles, found: Mapping[int, Path], title: str, alt: str) -> list[Picture]:
    """Return pictures by step: the newest one large, before it some of the earlier ones, smaller."""
    steps = list(found)
    every = math.ceil((len(steps) - 1) / EARLIER) or 1
    shown = [*steps[:-1][::-every][::-1], *steps[-1:]]
    pictures = []
    for step in shown:
        text = f"step {step:,}"
        widest = WIDEST if step == shown[-1] else SMALLER
        pictures += _picture(files, found[step], caption=f"{title}, {text}", alt=f"{alt}, {text}", widest=widest)
    return pictures


def _evolution(files: RunFiles) -> Picture | None:
    path = files.folder / "semantics" / "evolution.png"
    try:
        if embedded_height(path) > TALLEST:
            return None
    except MissingFile:
        return None
    except UnreadableFile:
        files.unreadable.append("semantics/evolution.png")
        return None
    steps, count = ", ".join(f"{step:,}" for step in files.semantics), len(files.semantics)
    caption = f"Images and, under them, their semantic stream at steps {steps}"
    found = _picture(
        files, path, caption=caption, alt=f"Row of images, and one row of colours for each of {count} steps"
    )
    return found[0] if found else None


def _picture(files: RunFiles, path: Path, **how: Any) -> list[Picture]:
    try:
        return [embed(path, **how)]
    except MissingFile:
        return []
    except UnreadableFile:
        files.unreadable.append(f"{path.parent.name}/{path.name}")
        return []


def _commands(folder: str, files: RunFiles) -> list[str]:
    if not files.step:
        return []
    plugins = plugin_words(files.recipe)
    commands = [
        command("latsem", "sample", folder, "-n", 16, "--seed", 1, *plugins),
        command("latsem", "evaluate", folder, "evaluate.guided=true", *plugins),
    ]
    if files.semantics:
        commands.append(command("latsem", "features", folder, "photo.jpg", *plugins))
    return commands
