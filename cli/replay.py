"""`latsem replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .arguments import PluginsArgument


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a file of a run's replay folder")],
    plugins: PluginsArgument = None,
) -> None:
    """Compute a step again whose loss or gradient was not finite, and say where that begins."""
    from ..recipes.replaying import replay_file, report  # noqa: PLC0415

    found = replay_file(file, plugins or [])
    for line in report(found):
        typer.echo(line)
    if not found.same:
        raise typer.Exit(1)
