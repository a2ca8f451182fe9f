"""Going on with a run that is there, and training it longer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends.errors import UserError
from ..backends.run_folder import PLACED, RunFolder, write_json
from .recipe import Recipe, completed, from_values, of_run
from .yaml_reader import parse_value

if TYPE_CHECKING:
    from ..backends.session import RunResult


def resume(
    path: Path,
    extensions: Sequence[str] = (),
    places: Sequence[str] = (),
    *,
    quiet: bool = False,
    profiled: bool = False,
) -> RunResult:
    """Go on with a run where it stopped, or return what is there.

    Args:
        extensions: `steps=N`: train to more steps than it was begun with.
        places: `fabric.devices=N` and the like: go on with other devices than it was begun on.
        profiled: whether a few steps leave a trace in the run folder.

    Raises:
        UserError: not a run folder, an extension that is none, or a change of more than the place.
        Interrupted: the run was stopped; a checkpoint is kept.
    """
    from .assemble import session_in  # noqa: PLC0415 - torch is imported only now

    run = RunFolder(path.expanduser(), completed)
    _require_places(places)
    recipe = of_run(run, places, data="here")
    if extensions:
        recipe = extend(run, recipe, extensions)
    return session_in(run, recipe, quiet=quiet).run(profiled=profiled)


def extend(run: RunFolder, recipe: Recipe, extensions: Sequence[str]) -> Recipe:
    """Give a run more steps; from now on it is the run of the recipe with as many, and the recipe is returned.

    Raises:
        UserError: something else than more steps, or another process is training the run.
    """
    steps, before = _steps(extensions), recipe.settings.train.steps
    if steps == before:
        return recipe
    if steps < before:
        raise UserError(f"--extend: steps={steps}: the run has {before} steps already; it can only be trained longer")
    values = recipe.resolved()
    longer = from_values(recipe.name, {**values, "train": {**values["train"], "steps": steps}}, data="here")
    with run.occupied(values):
        folder: dict[str, Any] = json.loads(run.resolved.read_text(encoding="utf-8"))
        # In this order: a run of more steps must not look done.
        run.done.unlink(missing_ok=True)
        write_json(run.resolved, {**folder, "recipe": longer.resolved()})
    return longer


def _require_places(changes: Sequence[str]) -> None:
    allowed = [f"fabric.{key}" for key in PLACED]
    for change in changes:
        if change.partition("=")[0] not in allowed:
            raise UserError(f"--resume: '{change}': a run goes on as it is; only {', '.join(allowed)} may change")


def _steps(extensions: Sequence[str]) -> int:
    *others, last = extensions
    key, _, text = last.partition("=")
    steps = parse_value(text) if text else None
    if others or key.removeprefix("train.") != "steps" or not isinstance(steps, int) or isinstance(steps, bool):
        raise UserError(f"--extend: '{' '.join(extensions)}': a run is extended by more steps, as in steps=4000")
    return steps
