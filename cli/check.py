"""`latsem check`."""

from __future__ import annotations

import typer

from .arguments import OverridesArgument, RecipeArgument


def check(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Find every mistake of a recipe at once, without building or writing anything."""
    from ..recipes.recipe import load, shapes_of  # noqa: PLC0415

    loaded = load(recipe, overrides or [])
    for warning in loaded.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for name, shape in shapes_of(loaded):
        typer.echo(f"{name}: {shape}")
    typer.echo(f"{recipe}: no mistakes found")
