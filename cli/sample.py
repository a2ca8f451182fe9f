"""`latsem sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .arguments import OverridesArgument, RunArgument
from .interruption import goes_on

Choice = Literal["balanced", "random"]


def sample(
    run: RunArgument,
    overrides: OverridesArgument = None,
    *,
    count: Annotated[int, typer.Option("-n", min=1, help="number of images")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="seed of the images")] = 0,
    step: Annotated[int | None, typer.Option(min=0, help="step of a kept checkpoint [default: the newest]")] = None,
    label: Annotated[
        str | None, typer.Option("--class", metavar="NAME|NUMBER", help="one class for all images")
    ] = None,
    labels: Annotated[
        Choice | None, typer.Option(help="balanced: all classes in turn; random: drawn [default: balanced]")
    ] = None,
    semantics: Annotated[
        bool, typer.Option("--semantics", help="show under each image the semantic stream drawn with it, as colours")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="file of the picture, instead of one in the run folder")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER|FILE.npz", help="a PNG an image, or one file as ADM's evaluator reads"),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="images drawn at once with --to, a device")] = 64,
) -> None:
    """Draw images from a run, with its guidance and sampler or others (guidance.scale=3 sampler=euler).

    One picture in the run folder, or every image by itself: --to; the same command again resumes.
    """
    from ..backends.errors import UserError  # noqa: PLC0415
    from ..recipes.recipe import starting  # noqa: PLC0415

    if label is not None and labels is not None:
        raise UserError("--class and --labels: one of them; --class gives all images one label")
    if to is not None and (out is not None or semantics):
        raise UserError("--to: writes every image by itself; --out and --semantics are of one picture of all images")
    with goes_on(), starting():
        from ..recipes.assemble import open_run  # noqa: PLC0415

        opened = open_run(run, overrides or [])
    which = opened.class_of(label) if label is not None else labels or "balanced"
    with goes_on():
        if to is None:
            typer.echo(str(opened.draw_samples(count, seed, which, step=step, semantics=semantics, out=out)))
        else:
            typer.echo(str(opened.write_images(count, seed, to, which, batch_size, step=step)))
