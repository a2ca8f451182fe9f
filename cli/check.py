"""`latsem check`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .arguments import OverridesArgument, RecipeArgument


def check(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object: bytes and counts")] = False,
) -> None:
    """Find every mistake of a recipe at once, and say what it takes; nothing is built, fetched or written."""
    from ..recipes.recipe import load  # noqa: PLC0415

    loaded = load(recipe, overrides or [], data="expected")
    # Only a recipe without mistakes is worth the wait for torch.
    from ..recipes.checking import footprint  # noqa: PLC0415
    from ..recipes.reporting import numbers, report_rows, shortages  # noqa: PLC0415

    for warning in loaded.warnings:
        typer.echo(f"warning: {warning}", err=True)
    found = footprint(loaded)
    if as_json:
        typer.echo(json.dumps(numbers(loaded, found)))
        return
    for name, value in report_rows(loaded, found):
        typer.echo(f"{name:<14} {value}")
    for shortage in shortages(found):
        typer.echo(f"does not fit: {shortage}")
    typer.echo(f"{recipe}: no mistakes found")
