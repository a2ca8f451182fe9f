"""`latsem run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .arguments import OverridesArgument, RecipeArgument, RootOption


def run(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    name: Annotated[str | None, typer.Option(help="name of the run folder, instead of the time")] = None,
    root: RootOption = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="build everything, show it, write nothing")] = False,
) -> None:
    """Train, draw, sample and score a recipe; the same command again goes on where it stopped."""
    from ..recipes import load  # noqa: PLC0415

    loaded = load(recipe, overrides or [])
    if dry_run:
        loaded.dry_run(name=name, root=root)
    else:
        loaded.run(name=name, root=root)
