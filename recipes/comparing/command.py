"""What `latsem compare` does with what was typed."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ...backends.errors import UserError
from ...backends.files import short_digest
from ...backends.run_folder import RunFolder
from ...components.user_cache import expanded
from .comparison import Comparing, comparison_folder
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
        Interrupted: a run was stopped; a checkpoint is kept.
    """
    study = study_of(things, seeds, changes, sweeps)
    stem = re.sub(r"[^\w-]", "_", Path(things[0]).stem) if len(things) == 1 else "comparison"
    made_up = f"{stem}-{short_digest(study.model_dump(mode='json'))}"
    folder = comparison_folder(root, made_up if name is None else name)
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
    if seeds is not None and all(is_run(Path(thing)) for thing in things):
        raise UserError("--seeds and --first-seed are of recipes: runs have the seeds that they were trained with")
    table = TableSettings(rows=_rows(things), sweeps=parse_sweeps(sweeps))
    return StudySettings(seeds=[0] if seeds is None else list(seeds), changes=list(changes), tables=[table])


def _rows(things: Sequence[str]) -> dict[str, RowSettings]:
    """Return a row for each recipe and each group of runs, in the order in which they were typed."""
    groups = _grouped([Path(thing) for thing in things if is_run(Path(thing))])
    families = [group[0].resolve().parent.name for group in groups]
    labels = {thing: _label(thing) for thing in things if not is_run(Path(thing))}
    taken = [*families, *labels.values()]
    rows: dict[str, RowSettings] = {}
    for thing in things:
        if thing in labels:
            rows[labels[thing]] = RowSettings(**parse_row(thing))
            continue
        group, family = next(each for each in zip(groups, families, strict=True) if Path(thing) in each[0])
        name = family if taken.count(family) == 1 else f"{family}/{group[0].resolve().name}"
        rows[name] = RowSettings(runs=group)
    return rows


def _label(text: str) -> str:
    recipe, *changes = split_row(text)
    return " ".join([recipe.removeprefix("recipes/").removesuffix(".yaml"), *changes])


def _grouped(paths: Sequence[Path]) -> list[list[Path]]:
    """Put runs that differ in their seeds alone together."""
    groups: list[list[Path]] = []
    for path in dict.fromkeys(paths):
        recipe = _seedless(path)
        same = next((group for group in groups if trained_alike(_seedless(group[0]), recipe)), None)
        if same is None:
            groups.append([path])
        else:
            same.append(path)
    return groups


def _seedless(path: Path) -> dict[str, object]:
    recipe = RunFolder(expanded(path)).recipe()
    return {**recipe, "train": {**recipe["train"], "seed": None}}
