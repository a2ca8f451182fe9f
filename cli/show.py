"""`latsem show`."""

from __future__ import annotations

from typing import Annotated

import typer

from .arguments import OverridesArgument


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|PART|SECTION|STUDY",
            help="a recipe, a part such as coevolving, a section such as train or fabric.devices, or a study",
        ),
    ],
    overrides: OverridesArgument = None,
) -> None:
    """Show a recipe with every value it ends up with, or what a part or a section does and what can be set."""
    from ..recipes.catalogue import describe  # noqa: PLC0415

    typer.echo(describe(what, overrides or []))
