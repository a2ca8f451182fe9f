"""`latsem compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .arguments import RootOption
from .interruption import goes_on


def compare(
    things: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE|RUN|STUDY",
            help="recipes, also with changes ('pixel_coredi encoder=shapes_dino'), run folders, or a study's file; the "
            "first is what others are measured against",
        ),
    ],
    *,
    seeds: Annotated[int | None, typer.Option(min=1, max=100, help="runs of each recipe [default: 1]")] = None,
    first_seed: Annotated[int | None, typer.Option(min=0, help="their seeds begin here [default: 0]")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a change to all recipes")
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE,...", help="score every run with each value (guidance.scale=1,1.5,2)"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the comparison's folder")] = None,
    root: RootOption = Path("runs"),
) -> None:
    """Run and score what is missing, and print tables: mean, spread, ratio, steps saved; with a report of curves."""
    from ..recipes.recipe import starting  # noqa: PLC0415

    said = seeds is not None or first_seed is not None
    chosen = range(first_seed or 0, (first_seed or 0) + (seeds or 1)) if said else None
    with goes_on():
        with starting():
            from ..recipes.comparing.command import compare as carry_out  # noqa: PLC0415

        told = carry_out(things, root=root, seeds=chosen, changes=changes or [], sweeps=sweep or [], name=name)
    if told:
        typer.echo(told)
