"""A recipe: read, checked, and ready to run."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import ValidationError

from ..backends.command_line import command, plugin_words
from ..backends.errors import UserError
from ..backends.run_folder import PLUGINS, RunFolder, differences, identity
from . import derive
from .combining import combine
from .layers import command_line, file_layers, find_recipe, override, recipe_name
from .near_keys import explained
from .plugins import Plugin, require_same, run_plugins, stored_names
from .schema import RecipeSettings
from .yaml_reader import KeyPath, Sourced

if TYPE_CHECKING:
    from ..backends.session import RunResult

RUNS = Path("runs")

TRAINED = ("backend", "streams", "process", "denoiser", "projection", "train")
"""Sections that no run can be sampled or scored by in another way than it was trained."""

DataUse = Literal["here", "expected", "unused"]
"""Whether a recipe's data must be there, may be replaced by what the recipe expects of it, or does not matter."""


@dataclass(frozen=True)
class Recipe:
    """A valid recipe.

    Attributes:
        name: what its runs lie under: its file's name, with the sub-folder where it is shipped in one.
        text: a recipe file of everything that was given, overrides and bases included.
        settings: every value, validated.
        warnings: settings that do nothing, or are others than somebody may think.
        plugins: files that were run for it.
        overrides: changes to the file that were typed.
    """

    name: str
    text: str
    settings: RecipeSettings
    warnings: tuple[str, ...] = ()
    plugins: tuple[Plugin, ...] = ()
    overrides: tuple[str, ...] = ()

    def resolved(self) -> dict[str, Any]:
        """Return every value, as JSON."""
        values: dict[str, Any] = self.settings.model_dump(mode="json")
        return values

    def run(
        self,
        *,
        name: str | None = None,
        root: Path | str = RUNS,
        quiet: bool = False,
        profiled: bool = False,
        accept_data: bool = False,
    ) -> RunResult:
        """Do what `latsem run` does, and return the finished run.

        The same recipe again goes on where it stopped, or returns what is there.

        Args:
            profiled: whether a few steps leave a trace in the run folder.
            accept_data: whether a run that is there resumes on data that have changed since it began.

        Raises:
            UserError: `name` belongs to a run of another recipe, or the data have changed.
            Interrupted: the run was stopped; a checkpoint is kept.
        """
        with starting(quiet=quiet):
            from .assemble import open_session  # noqa: PLC0415 - torch is imported only now

            session = open_session(self, root=Path(root), name=name, quiet=quiet)
        return session.run(profiled=profiled, accept_data=accept_data)

    def dry_run(self, *, name: str | None = None, root: Path | str = RUNS) -> None:
        """Build everything and show the start-up screen; nothing is trained, nothing written.

        Raises:
            UserError: `name` belongs to a run of another recipe.
        """
        with starting():
            from .assemble import open_session  # noqa: PLC0415 - torch is imported only now

            session = open_session(self, root=Path(root), name=name)
        session.fit()
        session.screen()


def load(recipe: str | Path, overrides: Sequence[str] = (), *, data: DataUse = "here", scored: bool = True) -> Recipe:
    """Return a recipe by path or shipped name, with `key=value` overrides.

    Args:
        data: what the recipe is wanted for; only one whose data is `here` can be run.
        scored: whether what its scores are made with is needed, too.

    Raises:
        UserError: every problem of the recipe, one line each: `file:line: path: message`.
    """
    path = find_recipe(str(recipe))
    layers = [*file_layers(path), command_line(overrides)]
    plugins = run_plugins(layers)
    sourced = combine(layers, RecipeSettings)
    loaded = check(recipe_name(path), "", sourced, data, scored=scored)
    values = _chosen(sourced.values, loaded.resolved())
    text = _text([str(recipe), *overrides], values, plugins)
    return replace(loaded, text=text, plugins=plugins, overrides=tuple(overrides))


def from_values(name: str, values: dict[str, Any], overrides: Sequence[str] = (), *, data: DataUse = "here") -> Recipe:
    """Return a recipe from plain values, as a run folder stores them, with overrides."""
    return check(name, "", override(_complete(name, values), overrides), data)


def _complete(name: str, values: dict[str, Any]) -> Sourced:
    return Sourced(values, {(): name}, complete=True)


def completed(values: dict[str, Any]) -> dict[str, Any]:
    """Return a run's recipe with every value that there is today; as it is, if it cannot be read any more."""
    try:
        return from_values("run", values, data="unused").resolved()
    except UserError:
        return values


def of_run(run: RunFolder, overrides: Sequence[str] = (), *, data: DataUse = "unused") -> Recipe:
    """Return the recipe of a run, with overrides of how its weights are used.

    Its plug-ins are run only where an override names them: a run folder may come from somebody else.

    Raises:
        UserError: not a run folder, or an override that does not fit, or is of what the weights came about by.
    """
    name, values = run.path.resolve().parent.name, run.recipe()
    typed = command_line(overrides)
    plugins = run_plugins([typed])
    if plugins:
        require_same(run.path, values, plugins)
    try:
        sourced = combine([[_complete(name, values)], typed], RecipeSettings)
        recipe = replace(check(name, "", sourced, data), plugins=plugins)
    except UserError as error:
        named = plugin_words(values)
        hint = [f"{run.path}: was trained with plug-ins; if parts are missing, name them: {command(*named)}"]
        raise UserError(*error.problems, *(hint if named and not plugins else ()), *_of_other_version(run)) from None
    before, after = (
        {key: value for key, value in identity(each.resolved()).items() if key in TRAINED}
        for each in (from_values(name, values, data="unused"), recipe)
    )
    changed = differences(before, after)
    if changed:
        raise UserError(f"{run.path}: {'; '.join(changed)}: changes what was trained; train a run of it instead")
    return recipe


def _of_other_version(run: RunFolder) -> list[str]:
    """Return a line where another version of latsem began a run that this one cannot read."""
    written, here = run.written_by(), importlib.metadata.version("latsem")
    return [f"{run.path}: was begun by latsem {written}, and this is {here}"] if written not in (None, here) else []


def check(name: str, text: str, sourced: Sourced, data: DataUse = "here", *, scored: bool = True) -> Recipe:
    """Validate values, how the parts fit together and what they name outside; of the data only where it is needed.

    Raises:
        UserError: every problem, one line each.
    """
    try:
        settings = RecipeSettings.model_validate(sourced.values)
    except ValidationError as error:
        wrong = [(e["loc"], explained(e["msg"], e["loc"], sourced.values)) for e in error.errors()]
        raise UserError(*[problem_line(sourced, path, message) for path, message in wrong]) from None
    notes: list[str] = []
    if data == "expected":
        settings, notes = derive.with_expected_data(settings)
    problems = list(derive.outside_problems(settings, data_needed=data != "unused"))
    if not problems:
        settings = derive.fitted(settings)
    if data != "unused":
        problems += derive.encoder_problems(settings)
        outside = list(derive.scoring_problems(settings)) if scored else []
        problems += outside if data == "here" else ()
        notes += [f"{'.'.join(key)}: {message} (counted as expected)" for key, message in outside if data == "expected"]
    problems = problems or list(derive.clashes(settings))
    if problems:
        raise UserError(*[problem_line(sourced, path, message) for path, message in problems])
    found = (*notes, *derive.warnings(settings)) if data != "unused" else ()
    return Recipe(name, text, settings.anchored(), (*sourced.notes, *found))


def starting(*, quiet: bool = False) -> AbstractContextManager[None]:
    """Show a spinner while torch is imported and a recipe's parts are built, where there is a terminal."""
    from ..backends.console import RunConsole, is_first_process  # noqa: PLC0415 - kept off the path to `list` and `show`

    return RunConsole(quiet=quiet or not is_first_process()).working("starting: loading torch, building the parts")


def problem_line(sourced: Sourced, path: KeyPath, message: str) -> str:
    """Return a problem as it is shown: where, which key, what."""
    shown = ".".join(str(key) for key in path)
    return ": ".join(part for part in (sourced.place(path), shown, message) if part)


def _chosen(given: Any, resolved: Any) -> Any:
    """Return the values of a resolved recipe that somebody has chosen."""
    if not isinstance(given, dict) or not isinstance(resolved, dict):
        return resolved
    return {key: _chosen(value, resolved[key]) for key, value in given.items() if key in resolved}


def _text(words: Sequence[str], values: dict[str, Any], plugins: Sequence[Plugin]) -> str:
    """Return a recipe file of what was given: in a run's folder, beside its plug-ins, it is the recipe of the run."""
    stored = [{"file": file, "sha256": plugin.sha256} for file, plugin in stored_names(plugins).items()]
    given = {**values, **({PLUGINS: stored} if stored else {})}
    shown = "".join(each if each.isprintable() else "?" for each in command(*words))
    text: str = yaml.safe_dump(given, sort_keys=False, allow_unicode=True)
    return f"# {shown}: what was given; every value is in resolved.json\n{text}"
