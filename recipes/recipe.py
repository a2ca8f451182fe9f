"""A recipe: read, checked, and ready to run."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from ..backends.errors import UserError
from ..backends.run_folder import RunFolder, differences
from . import derive
from .layers import find_recipe, override, read_layers, recipe_name
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
        name: what its runs and caches lie under: its file's name, with the sub-folder where it is shipped in one.
        text: the file as it was given, with the overrides as comments.
        settings: every value, validated.
        warnings: settings that do nothing.
    """

    name: str
    text: str
    settings: RecipeSettings
    warnings: tuple[str, ...] = ()

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
        from .assemble import open_session  # noqa: PLC0415 - torch is imported only now

        session = open_session(self, root=Path(root), name=name, quiet=quiet)
        return session.run(profiled=profiled, accept_data=accept_data)

    def dry_run(self, *, name: str | None = None, root: Path | str = RUNS) -> None:
        """Build everything and show the start-up screen; nothing is trained, nothing written.

        Raises:
            UserError: `name` belongs to a run of another recipe.
        """
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
    sourced = read_layers(path, overrides)
    _run_plugins(sourced, path)
    text = path.read_text(encoding="utf-8") + "".join(f"# override: {override}\n" for override in overrides)
    return check(recipe_name(path), text, sourced, data, scored=scored)


def from_values(name: str, values: dict[str, Any], overrides: Sequence[str] = (), *, data: DataUse = "here") -> Recipe:
    """Return a recipe from plain values, as a run folder stores them, with overrides."""
    return check(name, "", override(Sourced(values, {(): name}), overrides), data)


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
    named = [change for change in overrides if change.partition("=")[0] == "plugins"]
    if named:
        _run_plugins(override(Sourced(values, {(): name}), named), Path(name))
    try:
        recipe = from_values(name, values, overrides, data=data)
    except UserError as error:
        trained_with = ", ".join(values.get("plugins") or ()) if not named else ""
        hint = [f"{run.path}: was trained with {trained_with}: if parts of it are missing, name it: plugins=[FILE]"]
        raise UserError(*error.problems, *(hint if trained_with else ())) from None
    before, after = (
        {key: value for key, value in each.resolved().items() if key in TRAINED}
        for each in (from_values(name, values, data="unused"), recipe)
    )
    changed = differences(before, after)
    if changed:
        raise UserError(f"{run.path}: {'; '.join(changed)}: changes what was trained; train a run of it instead")
    return recipe


def check(name: str, text: str, sourced: Sourced, data: DataUse = "here", *, scored: bool = True) -> Recipe:
    """Validate values, how the parts fit together and what they name outside; of the data only where it is needed.

    Raises:
        UserError: every problem, one line each.
    """
    try:
        settings = RecipeSettings.model_validate(sourced.values)
    except ValidationError as error:
        raise UserError(*[problem_line(sourced, e["loc"], e["msg"]) for e in error.errors()]) from None
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
    warnings = (*notes, *derive.warnings(settings)) if data != "unused" else ()
    return Recipe(name, text, settings.anchored(), warnings)


def problem_line(sourced: Sourced, path: KeyPath, message: str) -> str:
    """Return a problem as it is shown: where, which key, what."""
    shown = ".".join(str(key) for key in path)
    return ": ".join(part for part in (sourced.place(path), shown, message) if part)


def _run_plugins(sourced: Sourced, recipe: Path) -> None:
    plugins = sourced.values.get("plugins", [])
    if not isinstance(plugins, list) or not all(isinstance(plugin, str) for plugin in plugins):
        return  # the schema will say so
    for plugin in plugins:
        _run_plugin(recipe.parent / Path(plugin).expanduser(), sourced.place(("plugins",)))


def _run_plugin(path: Path, place: str) -> None:
    name = f"latsem_plugin_{path.stem}"
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(path.resolve()):
        return
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"{place}: plugins: there is no Python file {path}")
    sys.stderr.write(f"running plug-in {path}\n")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"{place}: plugins: {path}: {type(error).__name__}: {error}") from error
