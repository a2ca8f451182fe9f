"""What `comparison.json` holds: several recipes and seeds, scored alike."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..files import write_json

FILE = "comparison.json"

Better = Literal["lower", "higher"]
"""Which scores of a metric are the better ones."""

Scores = dict[str, float | None]
"""Metric -> score; None where it was not finite."""

Curve = dict[int, Scores]
"""Step -> scores of one run."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True)


class Spread(_Data):
    """One score over seeds: mean, sample standard deviation (0 for a single seed), and each seed's own."""

    mean: float
    spread: float
    values: list[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return mean and spread of at least one value."""
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return cls(mean=statistics.fmean(values), spread=spread, values=list(values))


class ComparedRow(_Data):
    """One recipe of a table.

    Attributes:
        settings: its recipe with every value.
        step: of the final scores.
        runs: folders of its runs, one a seed.
        curves: scores over steps, one curve a seed, in the order of `seeds`.
        final: metric -> last scores.
        ratio: final mean of the main metric over the first row's; None in a table of one row, or of unlike steps.
        reaches_first: step at which the mean curve reaches the first row's final score; None if it never does.
        faster: steps of the first row over `reaches_first`.
    """

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)
    step: int | None = None
    runs: list[str] = Field(default_factory=list)
    seeds: list[int] = Field(default_factory=list)
    curves: list[Curve] = Field(default_factory=list)
    final: dict[str, Spread] = Field(default_factory=dict)
    ratio: float | None = None
    reaches_first: float | None = None
    faster: float | None = None


class SweepRow(_Data):
    """Scores of one recipe by metric, one entry for every value of the sweep."""

    name: str
    scores: list[dict[str, Spread]]


class Sweep(_Data):
    """One value of the recipes changed over a range, the finished runs scored with each."""

    key: str
    values: list[int | float | str]
    rows: list[SweepRow]


class Grid(_Data):
    """Samples of one recipe: a picture beside the file, of the same noise and labels in all rows of a table."""

    name: str
    picture: str


class ComparisonTable(_Data):
    """Recipes that are scored by one protocol, so that their scores can be compared.

    Attributes:
        metrics: what is scored, and which scores are better.
        main: the metric of ratios and of the steps saved.
        rows: the first one is what the others are measured against.
        protocol: what the scores depend on apart from the models.
        revisions: revisions of the code that the runs were made with.
    """

    title: str
    metrics: dict[str, Better]
    main: str
    rows: list[ComparedRow] = Field(min_length=1)
    note: str = ""
    sweeps: list[Sweep] = Field(default_factory=list)
    grids: list[Grid] = Field(default_factory=list)
    protocol: dict[str, Any] = Field(default_factory=dict)
    hash: str = ""
    revisions: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _main_is_scored(self) -> ComparisonTable:
        if self.main not in self.metrics:
            raise ValueError(f"the main metric {self.main!r} is none of {', '.join(self.metrics)}")
        return self


class Comparison(_Data):
    """A whole comparison.

    Attributes:
        command: the line that makes it.
        environment: versions, hardware and revision of the process that wrote it.
    """

    title: str
    tables: list[ComparisonTable]
    command: str = ""
    environment: dict[str, Any] = Field(default_factory=dict)


def write_comparison(folder: Path, comparison: Comparison) -> Path:
    """Write `comparison.json` of a folder, atomically, and return its path."""
    path = folder / FILE
    write_json(path, comparison.model_dump(mode="json"))
    return path


def read_comparison(folder: Path) -> Comparison:
    """Return what `comparison.json` of a folder holds.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no comparison.
    """
    return Comparison.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
