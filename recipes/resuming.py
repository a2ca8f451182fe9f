"""Going on with a run that is there, and training it longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends.errors import UserError
from ..backends.run_folder import PLACED, RunFolder
from ..components.user_cache import expanded
from .plugins import is_plugins
from .recipe import Recipe, completed, from_values, of_run, starting
from .scalars import number

if TYPE_CHECKING:
    from ..backends.session import RunResult


def resume(
    path: Path,
    extensions: Sequence[str] = (),
    places: Sequence[str] = (),
    *,
    quiet: bool = False,
    profiled: bool = False,
    accept_data: bool = False,
) -> RunResult:
    """Go on with a run where it stopped, or return what is there.

    Args:
        extensions: `steps=N`: train to more steps than it was begun with.
        places: `fabric.devices=N`, `data.root=FOLDER` and the like: other devices than it was begun on, or the same
            data at another place.
        profiled: whether a few steps leave a trace in the run folder.
        accept_data: whether to resume on data that have changed since the run began.

    Raises:
        UserError: not a run folder, an extension that is none, a change of more than the place, or changed data.
        Interrupted: the run was stopped; a checkpoint is kept.
    """
    run = RunFolder(expanded(path), completed)
    begun = of_run(run, list(filter(is_plugins, places)))
    _require_places(places, begun)
    recipe = of_run(run, places, data="here")
    if extensions:
        recipe = extended(recipe, extensions)
    with starting(quiet=quiet):
        from .assemble import session_in  # noqa: PLC0415 - torch is imported only now

        session = session_in(run, recipe, quiet=quiet, begun=begun.resolved())
    return session.run(profiled=profiled, accept_data=accept_data)


def extended(recipe: Recipe, extensions: Sequence[str]) -> Recipe:
    """Return the recipe of a run with more steps.

    Raises:
        UserError: something else than more steps.
    """
    steps, before = _steps(extensions), recipe.settings.train.steps
    if steps == before:
        return recipe
    if steps < before:
        raise UserError(f"--extend: steps={steps}: the run has {before} steps already; it can only be trained longer")
    values = recipe.resolved()
    longer = from_values(recipe.name, {**values, "train": {**values["train"], "steps": steps}}, data="here")
    return replace(longer, plugins=recipe.plugins)


def _require_places(changes: Sequence[str], begun: Recipe) -> None:
    allowed = [f"{section}.{key}" for section, keys in PLACED.items() for key in keys]
    allowed += [f"data.{key}" for key in begun.settings.data.places]
    for change in changes:
        if change.partition("=")[0] not in (*allowed, "plugins"):
            raise UserError(
                f"--resume: '{change}': a run is resumed as it is; only {', '.join(allowed)} may change, and "
                "plugins=[FILE] names the plug-ins that it was trained with"
            )


def _steps(extensions: Sequence[str]) -> int:
    *others, last = extensions
    key, _, text = last.partition("=")
    steps = number(text)
    if others or key.removeprefix("train.") != "steps" or not isinstance(steps, int):
        raise UserError(f"--extend: '{' '.join(extensions)}': a run is extended by more steps, as in steps=4000")
    return steps
