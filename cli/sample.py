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
    label: Annotated[int | None, typer.Option("--class", min=0, help="one class for all images")] = None,
    labels: Annotated[
        Choice | None, typer.Option(help="balanced: all classes in turn; random: drawn [default: balanced]")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER|FILE.npz", help="a PNG an image, or one file as ADM's evaluator reads"),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="images drawn at once, a device")] = 64,
) -> None:
    """Draw images from a run, with its guidance and sampler or others (guidance.scale=3 sampler=euler).

    One picture in the run folder, or every image by itself: --to; the same command again goes on where it stopped.
    """
    from ..backends.errors import UserError  # noqa: PLC0415
    from ..recipes.assemble import open_run  # noqa: PLC0415

    if label is not None and labels is not None:
        raise UserError("--class and --labels: one of them; --class gives all images one label")
    opened, which = open_run(run, overrides or []), label if label is not None else labels or "balanced"
    if to is None:
        typer.echo(str(opened.draw_samples(count, seed, which)))
    else:
        with goes_on():
            typer.echo(str(opened.write_images(count, seed, to, which, batch_size)))
