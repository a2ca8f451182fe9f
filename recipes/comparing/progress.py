"""What a comparison says while it trains: the row it is at, the time of each run, and about that of the others."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from ...backends.console import RunConsole
from ...backends.run_folder import RunFolder
from ...backends.shown import duration
from .rows import Member, TableRow, found_run, trained_alike, trained_run


class Training:
    """Finds or trains the runs of all rows, one after the other.

    Args:
        rows: of all tables.
        swept: the same rows with the values that they are scored with, if some lead to other weights.
        root: folder of all runs.
    """

    def __init__(self, rows: Sequence[TableRow], swept: Sequence[TableRow], root: Path, console: RunConsole) -> None:
        self.root, self.console = root, console
        self.rows, self.row = len(rows), 0
        members = [member for row in (*rows, *swept) for member in row.members]
        recipes = [member.recipe.resolved() for member in members if found_run(member, root) is None]
        # Tables may share rows, and a sweep scores the weights that are there.
        self.missing = sum(
            not any(trained_alike(recipe, before) for before in recipes[:index]) for index, recipe in enumerate(recipes)
        )
        self.seconds: list[float] = []

    def runs_of(self, row: TableRow) -> list[RunFolder]:
        """Return the finished runs of the next row.

        Raises:
            UserError: data or a model cannot be used.
            Interrupted: a run was stopped; a checkpoint is kept.
        """
        self.row += 1
        return [self.run(member, self.place(self.row, row, member)) for member in row.members]

    def place(self, number: int, row: TableRow, member: Member) -> str:
        """Return in words which row it is, of how many, and which of its seeds."""
        seed = f", seed {member.seed}" if len(row.members) > 1 else ""
        return f"row {number}/{self.rows}  {row.name}{seed}"

    def run(self, member: Member, place: str) -> RunFolder:
        """Return the finished run of a member.

        Raises:
            UserError: data or a model cannot be used.
            Interrupted: it was stopped; a checkpoint is kept.
        """
        found = found_run(member, self.root)
        if found is not None:
            return found
        self.console.say(f"{place}: training, {self.missing} run{'s' if self.missing > 1 else ''} to train")
        begun = time.monotonic()
        run = trained_run(member, self.root)
        self.seconds.append(time.monotonic() - begun)
        self.missing -= 1
        rest = (
            f"; about {duration(self.missing * statistics.fmean(self.seconds))} for the others" if self.missing else ""
        )
        self.console.say(f"{place}: trained in {duration(self.seconds[-1])}{rest}")
        return run
