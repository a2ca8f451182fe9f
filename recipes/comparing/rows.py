"""Runs of a row: found, or trained; and scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...backends.checkpointing.store import checkpoints, newest_checkpoint, step_of
from ...backends.errors import UserError
from ...backends.evaluation.protocol import matches
from ...backends.evaluation.records import Record
from ...backends.evaluation.scoring import Known
from ...backends.run_folder import RunFolder
from ...components.user_cache import expanded
from ..assemble import open_session
from ..evaluating import RunScorer, implied_guidance, scored_recipe
from ..layers import COMMAND_LINE
from ..recipe import Recipe, completed, from_values, load
from .study import RowSettings, TableSettings

SCORED = ("evaluate", "guidance", "sampler")
"""Sections of a recipe that do not change the weights that it leads to."""


@dataclass(frozen=True)
class Member:
    """One run of a row.

    Attributes:
        recipe: what it is trained by and, more so, scored by.
        folder: where it is, None for one that may have to be trained.
    """

    seed: int
    recipe: Recipe
    folder: RunFolder | None = None


@dataclass(frozen=True)
class TableRow:
    """Runs that differ in their seeds alone."""

    name: str
    members: Sequence[Member]


def table_rows(table: TableSettings, seeds: Sequence[int], changes: Sequence[str]) -> list[TableRow]:
    """Read every recipe of a table, with changes of all tables.

    Raises:
        UserError: every problem of the first row that has some.
    """
    everywhere = [*changes, *table.changes]
    return [TableRow(name, _row_members(name, row, seeds, everywhere)) for name, row in table.rows.items()]


def _row_members(name: str, row: RowSettings, seeds: Sequence[int], changes: Sequence[str]) -> list[Member]:
    try:
        return _members(row, seeds, changes)
    except UserError as error:
        if not row.place:
            raise
        problems = [problem.removeprefix(f"{COMMAND_LINE}: ") for problem in error.problems]
        raise UserError(*[f"{row.place}: row '{name}': {problem}" for problem in problems]) from None


def _members(row: RowSettings, seeds: Sequence[int], changes: Sequence[str]) -> list[Member]:
    all_changes = [*changes, *row.changes]
    if not row.runs:
        guided = implied_guidance(all_changes)
        recipes = [load(row.recipe, [*guided, *all_changes, f"train.seed={seed}"]) for seed in seeds]
        return [Member(seed, recipe) for seed, recipe in zip(seeds, recipes, strict=True)]
    folders = [RunFolder(expanded(path)) for path in row.runs]
    recipes = [scored_recipe(folder, all_changes) for folder in folders]
    return [Member(recipe.settings.train.seed, recipe, folder) for recipe, folder in zip(recipes, folders, strict=True)]


def changed(member: Member, changes: Sequence[str]) -> Member:
    """Return a member with further changes: of its scores, or of its training.

    Raises:
        UserError: a change that does not fit, or would change the weights of a run that is there.
    """
    recipe = from_values(member.recipe.name, member.recipe.resolved(), [*implied_guidance(changes), *changes])
    folder = member.folder
    if folder is not None and not trained_alike(recipe.resolved(), member.recipe.resolved()):
        raise UserError(f"{folder.path}: {changes[-1]} changes what is trained; name the recipe instead of the run")
    return Member(member.seed, recipe, folder)


def trained_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two resolved recipes lead to the same weights."""
    return all(one[key] == other[key] for key in one.keys() | other.keys() if key not in SCORED)


def found_run(member: Member, root: Path) -> RunFolder | None:
    """Return the finished run of a member that is there, whatever it was scored by; None if there is none."""
    if member.folder is not None:
        return member.folder
    wanted = member.recipe.resolved()
    for path in sorted((root / member.recipe.name).glob("*/done.json"), reverse=True):
        if trained_alike(RunFolder(path.parent, completed).recipe(), wanted):
            return RunFolder(path.parent)
    return None


def trained_run(member: Member, root: Path) -> RunFolder:
    """Train the run of a member and return it.

    Raises:
        UserError: its data or a model cannot be used.
        Interrupted: the run was stopped; a checkpoint is kept.
    """
    # More follows, by the same processes: they stay together.
    return RunFolder(open_session(member.recipe, root=root).run(last=False).folder)


def score_run(scorer: RunScorer, run: RunFolder, steps: Sequence[int] = ()) -> list[Record]:
    """Return the scores of a run's kept checkpoints, and those that it made on its way by the same protocol.

    Args:
        steps: only these and the last; empty: all that there are.

    Raises:
        UserError: there is no checkpoint, or a damaged one.
    """
    last = score_last(scorer, run)
    found = {step_of(path): path for path in checkpoints(run)}
    wanted = {*steps, last["step"]}
    chosen = {step: path for step, path in found.items() if step in wanted or not steps}
    scored = [scorer.score(run, path, alike=matches) for path in chosen.values()]
    before = [record for record in scorer.scored_like(run, last) if record["step"] in wanted or not steps]
    earlier = [record for record in before if record["step"] not in found]
    return sorted([*earlier, *scored], key=lambda record: int(record["step"]))


def score_last(scorer: RunScorer, run: RunFolder) -> Record:
    """Return the scores of a run's newest checkpoint.

    Raises:
        UserError: there is none, or it is damaged.
    """
    return scorer.score(run, newest_checkpoint(run), alike=matches)


def scorer_of(member: Member, run: RunFolder, known: Known) -> RunScorer:
    """Return what scores the runs of a row: they differ in their weights alone."""
    return RunScorer(member.recipe, run.num_classes(), known)
