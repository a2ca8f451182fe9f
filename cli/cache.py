"""`latsem cache`."""

from __future__ import annotations

from typing import Annotated

import typer

from .arguments import OverridesArgument, RecipeArgument


def cache(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="say what each form of cache costs, write nothing")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="make it anew where it is damaged, or its images have changed"),
    ] = False,
) -> None:
    """Store what the frozen networks of a recipe say of its images, for `run` to read instead of encoding."""
    from ..recipes import load  # noqa: PLC0415
    from ..recipes.caching import make_cache  # noqa: PLC0415

    make_cache(load(recipe, overrides or [], scored=False), estimate=estimate, replace=replace)
