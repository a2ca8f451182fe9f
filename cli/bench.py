"""`latsem bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from .arguments import OverridesArgument, RecipeArgument

What = Literal["train", "sample", "data", "encode", "attention", "growth"]


def bench(
    recipe: RecipeArgument = "pixel_coredi",
    overrides: OverridesArgument = None,
    *,
    what: Annotated[What, typer.Option(help="a training step, or another stage; growth: a plot of its cost")] = "train",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE|CHANGES|image_only",
            help="in turn with this: a recipe with changes, changes of the first, or the first without semantics",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="times that each is measured")] = 10,
    warmup: Annotated[int, typer.Option(min=1, help="calls before that")] = 3,
    images: Annotated[int | None, typer.Option("-n", min=1, help="images drawn or encoded at once")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="page for the plot of growth")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="one JSON object: seconds, bytes, operations a second")
    ] = False,
) -> None:
    """Time a recipe on this machine, on random numbers: images/s, FLOP/s, share of a matrix product's, by stage."""
    from ..backends.errors import UserError  # noqa: PLC0415
    from ..recipes.benching import Bench  # noqa: PLC0415 - kept off the path to --help
    from ..recipes.benching import bench as carry_out  # noqa: PLC0415
    from ..recipes.growth import measure_growth  # noqa: PLC0415

    if what == "growth" and (against is not None or images is not None):
        raise UserError("--what growth: times a recipe's own variants, of their own sizes: no --against, no -n")
    if what != "growth" and out is not None:
        raise UserError("--out: only --what growth leaves a page")
    if what == "growth":
        how = Bench("train", rounds, warmup)
        found, page = measure_growth(recipe, overrides or [], how, out)
        typer.echo(f"plot           {page}", err=as_json)
    else:
        found = carry_out(recipe, overrides or [], Bench(what, rounds, warmup, images), against)
    if as_json:
        typer.echo(json.dumps(found.values()))
        return
    for line in found.lines():
        typer.echo(line)
