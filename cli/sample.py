"""`latsem sample`."""

from __future__ import annotations

from typing import Annotated

import typer

from .arguments import OverridesArgument, RunArgument


def sample(
    run: RunArgument,
    overrides: OverridesArgument = None,
    count: Annotated[int, typer.Option("-n", min=1, max=10_000, help="number of images")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="seed of the images")] = 0,
    label: Annotated[int | None, typer.Option("--class", min=0, help="one class for all images")] = None,
) -> None:
    """Draw images from a run, with its guidance and sampler or others (guidance.scale=3 sampler=euler)."""
    from ..recipes.assemble import open_run  # noqa: PLC0415

    session = open_run(run, overrides or [])
    typer.echo(str(session.draw_samples(count, seed, label)))
