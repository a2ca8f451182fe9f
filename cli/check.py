"""`latsem check`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .arguments import OverridesArgument, RecipeArgument


def check(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE", help="plan for devices that need not be here: h100:8, 8x80GB, a100:4:40GB, cpu:64GB"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object: bytes and counts")] = False,
) -> None:
    """Find every mistake of a recipe at once, and say what it takes; nothing is built, fetched or written.

    Exit code 1 if that does not fit on this machine, or into the devices of --device.
    """
    from ..backends.planned_device import parse_device  # noqa: PLC0415
    from ..recipes.recipe import load  # noqa: PLC0415

    planned = parse_device(device) if device is not None else None
    changes = [*(overrides or []), *(planned.changes() if planned is not None else ())]
    loaded = load(recipe, changes, data="expected")
    # Only a recipe without mistakes is worth the wait for torch.
    from ..recipes.checking import footprint  # noqa: PLC0415
    from ..recipes.reporting import numbers, report_rows, shortages  # noqa: PLC0415

    for warning in loaded.warnings:
        typer.echo(f"warning: {warning}", err=True)
    found = footprint(loaded, planned)
    missing = shortages(found)
    if as_json:
        typer.echo(json.dumps(numbers(loaded, found)))
        raise typer.Exit(1 if missing else 0)
    for name, value in report_rows(loaded, found):
        typer.echo(f"{name:<14} {value}")
    for shortage in missing:
        typer.echo(f"does not fit: {shortage}")
    typer.echo(f"{recipe}: no mistakes found")
    raise typer.Exit(1 if missing else 0)
