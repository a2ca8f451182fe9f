"""`latsem compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .arguments import RootOption


def compare(
    recipes: Annotated[
        list[str], typer.Argument(metavar="RECIPE...", help="the first one is what others are measured against")
    ],
    seeds: Annotated[int, typer.Option(min=1, max=100, help="runs of each recipe, with seeds 0, 1, ...")] = 1,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a change to all recipes")
    ] = None,
    root: RootOption = Path("runs"),
) -> None:
    """Run what is missing of several recipes and seeds, and print one table: mean, spread, ratio, steps saved."""
    from ..recipes.comparison import compare_recipes  # noqa: PLC0415

    typer.echo(compare_recipes(recipes, seeds=seeds, overrides=changes or [], root=root))
