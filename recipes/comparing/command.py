"""What `latsem compare` does with what was typed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ...backends.errors import UserError
from ...backends.run_folder import RunFolder, folder_name, short_digest
from .comparison import Comparing
from .rows import trained_alike
from .study import (
    RowSettings,
    StudySettings,
    TableSettings,
    find_study,
    is_run,
    parse_row,
    parse_sweeps,
    read_study,
    split_row,
)

FOLDER = "comparisons"


def compare(
    things: Sequence[str],
    *,
    root: Path,
    seeds: Sequence[int] | None = None,
    changes: Sequence[str] = (),
    sweeps: Sequence[str] = (),
    name: str | None = None,
) -> str:
    """Compare recipes (with changes), run folders, or the rows of one study file, and return the tables.

    Args:
        seeds: of every recipe; None: seed 0, or those of the study.

    Raises:
        UserError: something that was typed does not fit; nothing has been trained then.
    """
    study = study_of(things, seeds, changes, sweeps)
    stem = Path(things[0]).stem if len(things) == 1 else "comparison"
    made_up = f"{stem}-{short_digest(study.model_dump(mode='json'))}"
    folder = root / FOLDER / (folder_name(name) if name is not None else made_up)
    command = shlex.join(["latsem", *sys.argv[1:]]) if sys.argv[1:2] == ["compare"] else ""
    return Comparing(study, root, folder, command).run()


def study_of(
    things: Sequence[str], seeds: Sequence[int] | None, changes: Sequence[str], sweeps: Sequence[str]
) -> StudySettings:
    """Return what was typed as a study.

    Raises:
        UserError: a study file beside something else, options that would do nothing, or a sweep that is not written
            as one.
    """
    studies = [path for path in map(find_study, things) if path is not None]
    if studies:
        if len(things) > 1:
            raise UserError(f"{studies[0]}: a study is compared by itself")
        if seeds is not None or sweeps:
            raise UserError(f"{studies[0]}: a study has its own seeds and sweeps: write them there, not as options")
        study = read_study(studies[0])
        return study.model_copy(update={"changes": [*study.changes, *changes]})
    runs = [Path(thing) for thing in things if is_run(Path(thing).expanduser())]
    if seeds is not None and len(runs) == len(things):
        raise UserError("--seeds and --first-seed are of recipes: runs have the seeds that they were trained with")
    recipes = {_label(thing): RowSettings(**parse_row(thing)) for thing in things if Path(thing) not in runs}
    rows = {**recipes, **_grouped(runs)}
    table = TableSettings(rows=dict(rows), sweeps=parse_sweeps(sweeps))
    return StudySettings(seeds=[0] if seeds is None else list(seeds), changes=list(changes), tables=[table])


def _label(text: str) -> str:
    recipe, *changes = split_row(text)
    return " ".join([recipe.removeprefix("recipes/").removesuffix(".yaml"), *changes])


def _grouped(paths: Sequence[Path]) -> dict[str, RowSettings]:
    """Put runs that differ in their seeds alone into one row."""
    groups: list[list[Path]] = []
    for path in paths:
        recipe = _seedless(path)
        same = next((group for group in groups if trained_alike(_seedless(group[0]), recipe)), None)
        if same is None:
            groups.append([path])
        else:
            same.append(path)
    families = [group[0].resolve().parent.name for group in groups]
    names = [
        family if families.count(family) == 1 else f"{family}/{group[0].resolve().name}"
        for family, group in zip(families, groups, strict=True)
    ]
    return {name: RowSettings(runs=group) for name, group in zip(names, groups, strict=True)}


def _seedless(path: Path) -> dict[str, object]:
    recipe = RunFolder(path.expanduser()).recipe()
    return {**recipe, "train": {**recipe["train"], "seed": None}}
