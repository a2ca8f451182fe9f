"""What a run says on the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import IO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .output import LastingStream
from .shown import duration

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Environment variables by which launchers number the processes of a run."""


def is_first_process() -> bool:
    """Return whether this is the first process of a run, as far as its environment tells before the processes meet."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)


class LastingConsole(Console):
    """A console that goes without its output once that cannot be written."""

    @property
    def file(self) -> IO[str]:
        """The stream that is written to."""
        return cast(IO[str], LastingStream(super().file))

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file


@cache
def _console(*, quiet: bool, stderr: bool = False) -> Console:
    # One for all: lines of one console would be written into the bar of another.
    return LastingConsole(quiet=quiet, stderr=stderr, highlight=False, soft_wrap=True)


class RunConsole:
    """Start-up screen, progress and last words. Silent on every process but the first.

    Args:
        stderr: write to standard error: for commands whose output is read by programs.
    """

    def __init__(self, *, quiet: bool = False, stderr: bool = False) -> None:
        self.console = _console(quiet=quiet, stderr=stderr)

    def screen(self, title: str, rows: Mapping[str, str]) -> None:
        """Show a titled table of two columns."""
        # Text: in plain strings, brackets would be taken for styles.
        table = Table(
            title=Text(title), title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 1)
        )
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows.items():
            table.add_row(name, Text(value))
        self.console.print(table)

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False)

    def warn(self, text: str) -> None:
        """Print one line of warning."""
        self.console.print(f"warning: {text}", style="yellow", markup=False)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show a spinner beside what is being done, where there is a terminal."""
        if self.console.quiet or not self.console.is_terminal:
            yield
            return
        with self.console.status(what):
            yield

    @contextmanager
    def training(self, total: int, done: int, first: str = "") -> Iterator[TrainingProgress]:
        """Show a bar with loss, images/s and time left; where there is no terminal, a line now and then.

        Args:
            first: what is shown in the place of the figures until there are some.
        """
        progress = Progress(
            SpinnerColumn(),
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        with progress:
            yield TrainingProgress(self, progress, total, done, first)

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar for images that are gone through, where there is a terminal; yields what moves it."""
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn())
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)


class TrainingProgress:
    """Progress of the training loop."""

    def __init__(self, console: RunConsole, progress: Progress, total: int, done: int, first: str = "") -> None:
        self.console, self.progress, self.total, self.first = console, progress, total, first
        self.task = progress.add_task("training", total=total, completed=done, status=first)
        self.lines_every = max(1, total // 10)
        self.last_line = done

    def step(self, step: int) -> None:
        """Move the bar."""
        self.progress.update(self.task, completed=step)
        if self.first:
            self.first = ""
            self.progress.update(self.task, status="")

    def status(self, step: int, loss: float, images_per_second: float, seconds_left: float) -> None:
        """Show the latest figures."""
        status = f"loss {loss:.4f}  {images_per_second:,.0f} images/s"
        self.progress.update(self.task, status=status)
        if self.progress.disable and (step - self.last_line >= self.lines_every or step == self.total):
            self.last_line = step
            self.console.say(f"step {step}/{self.total}  {status}  {duration(seconds_left)} left")
