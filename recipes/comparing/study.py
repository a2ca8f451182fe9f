"""What is compared: rows of recipes or runs, the seeds, and values that are gone through."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, ValidationError, field_validator

from ...backends.errors import UserError
from ...backends.settings import MAX_SEED
from ...components.settings import Settings
from ...components.user_cache import expanded
from ..combining import combine
from ..layers import KEYS, shipped_studies
from ..recipe import problem_line
from ..scalars import number
from ..yaml_reader import Sourced, read_yaml

SweepValue = int | float | str
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class RowSettings(Settings):
    """One row: a recipe with changes, written `recipe key=value ...`, or folders of runs."""

    recipe: str = ""
    changes: list[str] = Field(default_factory=list)
    runs: list[Path] = Field(default_factory=list)
    _place: str = PrivateAttr("")

    @property
    def place(self) -> str:
        """`file:line` of a row of a study; empty for one of the command line."""
        return self._place

    def stands_at(self, place: str) -> None:
        """Note `file:line`."""
        self._place = place


class TableSettings(Settings):
    """Rows that are scored by one protocol; the first is what the others are measured against."""

    title: str = ""
    note: str = Field("", description="said below the table")
    rows: dict[str, RowSettings] = Field(min_length=1, description="name -> recipe with changes")
    changes: list[str] = Field(default_factory=list, description="changes to the recipes of all rows")
    sweeps: dict[str, list[SweepValue]] = Field(
        default_factory=dict, description="key -> values: the last weights of every run scored with each"
    )
    sweep_changes: list[str] = Field(default_factory=list, description="changes that go with every value of a sweep")
    sweep_rows: list[str] = Field(default_factory=list, description="names of the rows that are swept; empty: all")

    @field_validator("rows", mode="before")
    @classmethod
    def _short_rows(cls, rows: Any) -> Any:
        if not isinstance(rows, dict):
            raise ValueError("rows have names, as in {images alone: pixel_jit, CoReDi: pixel_coredi}")
        return {name: _row(name, row) for name, row in rows.items()}


class StudySettings(Settings):
    """Tables of one study."""

    title: str = ""
    seeds: list[Seed] = Field(default_factory=lambda: [0], min_length=1, description="values of train.seed")
    changes: list[str] = Field(default_factory=list, description="changes to every recipe")
    steps: list[int] = Field(default_factory=list, description="checkpoints that are scored, and the last; empty: all")
    tables: list[TableSettings] = Field(min_length=1)


def parse_row(text: str) -> dict[str, Any]:
    """Return a row written as on the command line: a recipe and `key=value` changes, or folders of runs."""
    words = split_row(text)
    if all(is_run(Path(word)) for word in words):
        return {"runs": words}
    return {"recipe": words[0], "changes": words[1:]}


def _row(name: str, row: Any) -> Any:
    if isinstance(row, str):
        try:
            return parse_row(row)
        except UserError as error:
            raise ValueError(f"{name}: {error}") from None
    if isinstance(row, dict) and bool(row.get("recipe")) == bool(row.get("runs")):
        raise ValueError(f"{name}: a row has a recipe or runs, one of them")
    return row


def split_row(text: str) -> list[str]:
    """Return the words of a row, of which there is one at least.

    Raises:
        UserError: there is none, or a quotation mark without its other.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"'{text}': cannot be read ({error}); a row is written 'recipe key=value ...'") from None
    if not words:
        raise UserError("a row is empty: name a recipe or a run folder")
    return words


def is_run(path: Path) -> bool:
    """Return whether a path is a run folder."""
    return (expanded(path) / "resolved.json").is_file()


def read_study(path: Path) -> StudySettings:
    """Read a study's YAML file.

    Raises:
        UserError: every problem, one line each: `file:line: key: message`.
    """
    sourced = combine([[_read(path)]], StudySettings)
    try:
        study = StudySettings.model_validate(sourced.values)
    except ValidationError as error:
        raise UserError(*[problem_line(sourced, each["loc"], each["msg"]) for each in error.errors()]) from None
    for index, table in enumerate(study.tables):
        for name, row in table.rows.items():
            row.stands_at(sourced.places.get(("tables", index, "rows", name), str(path)))
    return study


def _read(path: Path) -> Sourced:
    return read_yaml(path, str(path), (*KEYS, *StudySettings.model_fields))


def find_study(name: str) -> Path | None:
    """Return the file of a study: a YAML file with `tables`, or one that is shipped; None if it is something else.

    Raises:
        UserError: a file that cannot be read.
    """
    path = expanded(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path if "tables" in _read(path).values else None
    return shipped_studies().get(name.removeprefix("recipes/").removesuffix(".yaml"))


def parse_sweeps(texts: Sequence[str]) -> dict[str, list[SweepValue]]:
    """Return sweeps written `key=value,value,...`.

    Raises:
        UserError: one that is not.
    """
    sweeps: dict[str, list[SweepValue]] = {}
    for text in texts:
        key, _, values = text.partition("=")
        found = [value if (read := number(value)) is None else read for value in values.split(",") if value]
        if not key or len(found) < 2:
            raise UserError(f"--sweep: '{text}': a sweep is written key=value,value,..., as in guidance.scale=1,1.5,2")
        sweeps[key] = found
    return sweeps
