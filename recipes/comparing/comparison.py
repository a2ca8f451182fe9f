"""A study carried out: what is missing is trained and scored, then told as tables, curves and pictures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ...backends.checkpointing.store import checkpoints, step_of
from ...backends.console import RunConsole, is_first_process
from ...backends.errors import UserError
from ...backends.evaluation.protocol import clashes, comparable, digest
from ...backends.evaluation.records import Record
from ...backends.evaluation.scoring import Known
from ...backends.hardware import environment
from ...backends.launching import leave
from ...backends.pictures import grid_picture, save_picture
from ...backends.processes import in_first
from ...backends.reporting.comparison_data import (
    FILE,
    Better,
    ComparedRow,
    Comparison,
    ComparisonTable,
    Grid,
    Spread,
    Sweep,
    SweepRow,
    write_comparison,
)
from ...backends.reporting.comparison_report import write_comparison_report
from ...backends.reporting.page import FILE as REPORT
from ...backends.run_folder import RunFolder, folder_name
from ...backends.shown import relative
from ...components.system_names import is_system_name
from .. import derive
from ..evaluating import RunScorer, require_scores
from .curves import mean_curve, step_reaching
from .progress import Training
from .rows import TableRow, changed, score_last, score_run, scorer_of, table_rows
from .study import StudySettings, SweepValue, TableSettings
from .text import markdown

FOLDER = "comparisons"
GRID_IMAGES = 36
GRID_SEED = 0
UNLIKE_STEPS = (
    "No step is scored in all rows: each row's final scores are those of its own last step, without a ratio. Compare "
    "the curves."
)


@dataclass(frozen=True)
class ScoredRow:
    """A row with the scores of its runs, one list a run."""

    row: TableRow
    runs: list[RunFolder]
    records: list[list[Record]]
    scorer: RunScorer


class Comparing:
    """Carries out one study, with as many processes as its recipes ask for; the first one writes.

    Args:
        root: folder of all runs.
        folder: where tables, pictures and the report go, once everything is there.
        command: the line that was typed.
    """

    def __init__(self, study: StudySettings, root: Path, folder: Path, command: str = "") -> None:
        self.study, self.root, self.folder, self.command = study, root, folder, command
        self.console = RunConsole(quiet=not is_first_process())
        self.known: Known = {}
        # Written at the end: a comparison that is there stays until there is another in its place.
        self.pictures: dict[str, Image.Image] = {}

    def run(self) -> str:
        """Train and score what is missing, write everything, and return the tables as Markdown; nothing in others.

        Raises:
            UserError: a recipe is wrong, asks for no score, or rows are scored by different protocols.
        """
        tables = self.read()
        swept = [_changed_row(row, changes) for table, rows in tables for row, changes in _sweep_steps(table, rows)]
        self.training = Training([row for _, rows in tables for row in rows], swept, self.root, self.console)
        made = [self._table(number, table, rows) for number, (table, rows) in enumerate(tables, start=1)]
        title = self.study.title or ", ".join(row.name for row in made[0].rows)
        comparison = Comparison(title=title, tables=made, command=self.command, environment=environment())
        in_first(self.fabric, lambda: self._write(comparison))
        first = self.fabric.is_global_zero
        leave(self.fabric)
        return f"{markdown(comparison)}\n\nreport  {relative(self.folder / REPORT)}" if first else ""

    def _write(self, comparison: Comparison) -> None:
        empty_folder(self.folder)
        for name, picture in self.pictures.items():
            save_picture(picture, self.folder / name)
        write_comparison(self.folder, comparison)
        write_comparison_report(self.folder)

    def read(self) -> list[tuple[TableSettings, list[TableRow]]]:
        """Read every recipe, before the first one is trained.

        Raises:
            UserError: a recipe is wrong, or asks for no score.
        """
        refuse_other_folder(self.folder)
        tables = [(table, table_rows(table, self.study.seeds, self.study.changes)) for table in self.study.tables]
        for table, rows in tables:
            for row in rows:
                require_scores(row.name, row.members[0].recipe)
            unknown = [name for name in table.sweep_rows if name not in table.rows]
            if unknown:
                raise UserError(f"sweep_rows: there is no row '{unknown[0]}' (rows: {', '.join(table.rows)})")
            for row, changes in _sweep_steps(table, rows):
                require_scores(row.name, _changed_row(row, changes).members[0].recipe)
        return tables

    def _table(self, number: int, table: TableSettings, rows: Sequence[TableRow]) -> ComparisonTable:
        # Everything is trained before anything is scored: a clash of protocols is found before hours of scoring.
        trained = [(row, self.training.runs_of(row)) for row in rows]
        scorers = [scorer_of(row.members[0], runs[0], self.known) for row, runs in trained]
        self.fabric = scorers[0].fabric
        named = zip(trained, scorers, strict=True)
        _require_one_protocol(
            [row.name for row in rows], [scorer.scoring.read_reference(runs[0]) for (_, runs), scorer in named]
        )
        before = self.training.row - len(rows)
        scored = [
            self._scored(before + number, row, runs, scorer)
            for number, ((row, runs), scorer) in enumerate(zip(trained, scorers, strict=True), start=1)
        ]
        first = scored[0].records[0][-1]
        metrics: dict[str, Better] = {
            name: way for name, way in first["better"].items() if not name.startswith(derive.SEMANTIC_PREFIX)
        }
        main = next(iter(metrics))
        last = last_shared_step(scored)
        return ComparisonTable(
            title=table.title,
            note=" ".join(filter(None, [table.note, "" if last is not None else UNLIKE_STEPS])),
            metrics=metrics,
            main=main,
            rows=compared_rows(scored, main, metrics, last),
            sweeps=[self._sweep(table, rows, key, values, list(metrics)) for key, values in table.sweeps.items()],
            grids=[self._grid(number, index, each, last) for index, each in enumerate(scored)],
            protocol=comparable(first["protocol"]),
            hash=digest(comparable(first["protocol"])),
            revisions=sorted({str(r["protocol"]["code"]) for each in scored for run in each.records for r in run}),
        )

    def _scored(self, number: int, row: TableRow, runs: list[RunFolder], scorer: RunScorer) -> ScoredRow:
        records = []
        for member, run in zip(row.members, runs, strict=True):
            self.console.say(f"{self.training.place(number, row, member)}: scoring {relative(run.path)}")
            records.append(self._scores(scorer, run))
        return ScoredRow(row, runs, records, scorer)

    def _scores(self, scorer: RunScorer, run: RunFolder) -> list[Record]:
        records = score_run(scorer, run, self.study.steps)
        scored = [int(record["step"]) for record in records]
        missing = [step for step in self.study.steps if step < scored[-1] and step not in scored]
        if missing:
            steps = ", ".join(map(str, missing))
            raise UserError(f"{relative(run.path)}: has neither checkpoint nor scores at step {steps} (steps)")
        return records

    def _sweep(
        self,
        table: TableSettings,
        rows: Sequence[TableRow],
        key: str,
        values: Sequence[SweepValue],
        metrics: Sequence[str],
    ) -> Sweep:
        swept = _swept(table, rows)
        made = []
        for number, row in enumerate(swept):
            scores = []
            for at, value in enumerate(values, start=1):
                changes = _with_value(table, key, value)
                place = f"sweep {number * len(values) + at}/{len(swept) * len(values)}  {row.name} {' '.join(changes)}"
                scores.append(self._at(row, changes, place, metrics))
            made.append(SweepRow(name=row.name, scores=scores))
        return Sweep(key=key, values=list(values), rows=made)

    def _at(self, row: TableRow, changes: Sequence[str], place: str, metrics: Sequence[str]) -> dict[str, Spread]:
        """Return the last scores of a row with one value of a sweep."""
        members = _changed_row(row, changes).members
        runs = [self.training.run(member, place) for member in members]
        self.console.say(f"{place}: scoring")
        scorer = scorer_of(members[0], runs[0], self.known)
        lasts = [score_last(scorer, run)["scores"] for run in runs]
        return {name: Spread.of([last[name] for last in lasts]) for name in metrics}

    def _grid(self, table: int, index: int, scored: ScoredRow, step: int | None) -> Grid:
        """Draw the same noise and labels in every row, from its first run as it was at a step, if that was kept."""
        name, kept = f"samples-{table}-{index + 1}.png", checkpoints(scored.runs[0])
        checkpoint = next((path for path in kept if step_of(path) == step), kept[-1])
        if self.fabric.is_global_zero:
            images = scored.scorer.images(checkpoint, range(GRID_IMAGES), GRID_SEED)
            self.pictures[name] = grid_picture(images)
        return Grid(name=scored.row.name, picture=name)


def _swept(table: TableSettings, rows: Sequence[TableRow]) -> list[TableRow]:
    return [row for row in rows if row.name in table.sweep_rows or not table.sweep_rows]


def _with_value(table: TableSettings, key: str, value: SweepValue) -> list[str]:
    return [*table.sweep_changes, f"{key}={value}"]


def _sweep_steps(table: TableSettings, rows: Sequence[TableRow]) -> Iterator[tuple[TableRow, list[str]]]:
    """Yield every row that is swept with the changes of every value."""
    for key, values in table.sweeps.items():
        for value in values:
            for row in _swept(table, rows):
                yield row, _with_value(table, key, value)


def _changed_row(row: TableRow, changes: Sequence[str]) -> TableRow:
    return TableRow(row.name, [changed(member, changes) for member in row.members])


def last_shared_step(scored: Sequence[ScoredRow]) -> int | None:
    """Return the last step at which all runs of all rows are scored; None if there is none."""
    shared = set.intersection(*({int(r["step"]) for r in records} for each in scored for records in each.records))
    return max(shared, default=None)


def compared_rows(
    scored: Sequence[ScoredRow], main: str, metrics: dict[str, Better], last: int | None
) -> list[ComparedRow]:
    """Return the rows of a table: scores at the last step that all runs share, against the first row.

    Args:
        last: that step; None: each row is shown at its own last step, and only the curves can be compared.

    Raises:
        UserError: the runs of a row have no step in common.
    """
    curves = [[{int(r["step"]): dict(r["scores"]) for r in records} for records in each.records] for each in scored]
    means = [mean_curve([{step: s[main] for step, s in run.items()} for run in row]) for row in curves]
    for each, mean in zip(scored, means, strict=True):
        if not mean:
            names = ", ".join(relative(run.path) for run in each.runs)
            raise UserError(f"{each.row.name}: its runs ({names}) are scored at no step in common")
    ends = [max(mean) if last is None else last for mean in means]
    goal = means[0][ends[0]]
    return [
        ComparedRow(
            name=each.row.name,
            runs=[relative(run.path) for run in each.runs],
            seeds=[member.seed for member in each.row.members],
            settings=each.row.members[0].recipe.resolved(),
            curves=[dict(run) for run in row],
            step=end,
            final={name: Spread.of([run[end][name] for run in row]) for name in metrics},
            ratio=mean[end] / goal if len(scored) > 1 and goal and last is not None else None,
            reaches_first=(reached := step_reaching(mean, goal, metrics[main])),
            faster=ends[0] / reached if reached else None,
        )
        for each, row, mean, end in zip(scored, curves, means, ends, strict=True)
    ]


def _require_one_protocol(names: Sequence[str], protocols: Sequence[dict[str, Any]]) -> None:
    problems = [
        f"{name} and {names[0]} are scored differently, which is not to be compared: {clash}"
        for name, protocol in zip(names, protocols, strict=True)
        for clash in clashes(protocols[0], protocol)
    ]
    if problems:
        raise UserError(*problems, "make them alike with --set key=value")


def comparison_folder(root: Path, name: str) -> Path:
    """Return the folder of a comparison.

    Raises:
        UserError: `name` is no folder name.
    """
    return root / FOLDER / folder_name(name)


def refuse_other_folder(folder: Path) -> None:
    """Check that a folder may be emptied.

    Raises:
        UserError: it holds something, and no comparison.
    """
    if not folder.exists() or (folder / FILE).is_file():
        return
    if not folder.is_dir() or not all(is_system_name(entry.name) for entry in folder.iterdir()):
        raise UserError(f"{folder}: is there, and holds no comparison; take another --name")


def empty_folder(folder: Path) -> None:
    """Make a folder for a comparison, emptied of an earlier one.

    Raises:
        UserError: it holds something else.
    """
    refuse_other_folder(folder)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
