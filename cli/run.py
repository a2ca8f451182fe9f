"""`latsem run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .arguments import OverridesArgument, RootOption
from .interruption import goes_on


def run(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")
    ] = None,
    overrides: OverridesArgument = None,
    *,
    name: Annotated[str | None, typer.Option(help="name of the run folder, instead of the time")] = None,
    root: RootOption = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="build everything, show it, write nothing")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="leave a trace of a few steps in the run folder")] = False,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="RUN|CHECKPOINT", help="start from these weights: a new run, from step 0")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="go on with this run exactly, without its recipe's file")
    ] = None,
    accept_data: Annotated[
        bool, typer.Option("--accept-data", help="resume although the data have changed since the run began")
    ] = False,
    extend: Annotated[
        list[str] | None, typer.Option(metavar="steps=N", help="with --resume: train to more steps")
    ] = None,
) -> None:
    """Train, draw, sample and score a recipe; the same command again goes on where it stopped."""
    from ..backends.errors import UserError  # noqa: PLC0415 - kept off the path to --help
    from ..recipes import load  # noqa: PLC0415
    from ..recipes.resuming import resume as go_on  # noqa: PLC0415

    if resume is not None:
        places = [text for text in (recipe, *(overrides or [])) if text is not None]
        if name is not None or checkpoint is not None or dry_run or any("=" not in text for text in places):
            raise UserError(
                "--resume: goes on with a run as it is: no recipe, and beside it only --extend, --profile and where it "
                "runs (fabric.devices=N, fabric.strategy=NAME)"
            )
        with goes_on():
            go_on(resume, extend or [], places, profiled=profile, accept_data=accept_data)
        return
    if recipe is None:
        raise UserError("name a recipe ('latsem list recipe'), or a run to go on with: --resume RUN")
    if extend:
        raise UserError("--extend: name the run that is to be longer: --resume RUN --extend steps=N")
    changes = [*(overrides or []), *([f"train.checkpoint={checkpoint}"] if checkpoint else [])]
    with goes_on():
        loaded = load(recipe, changes)
        if dry_run:
            loaded.dry_run(name=name, root=root)
        else:
            loaded.run(name=name, root=root, profiled=profile, accept_data=accept_data)
