"""`latsem show`."""

from __future__ import annotations

from typing import Annotated

import typer

from .arguments import OverridesArgument


def show(
    what: Annotated[str, typer.Argument(metavar="RECIPE|PART", help="a recipe, or a part such as coevolving")],
    overrides: OverridesArgument = None,
) -> None:
    """Show a recipe with every value it ends up with, or what a part does and what can be set."""
    from ..recipes.catalogue import describe  # noqa: PLC0415

    typer.echo(describe(what, overrides or []))
