"""`report.html` of a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import UnreadableFile, write_atomically
from .charts import Chart
from .comparison_charts import convergence, mean_curve, sweep_charts
from .comparison_data import Better, ComparedRow, ComparisonTable, Spread, Sweep, read_comparison
from .embedding import SMALLER, Picture, embed
from .page import FILE, render
from .values import Fact, facts, plain


def write_comparison_report(folder: Path) -> Path:
    """Write `report.html` of a comparison from `comparison.json` and the pictures beside it, and return its path.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: `comparison.json` is no comparison.
    """
    comparison = read_comparison(folder)
    path = folder / FILE
    page = render(
        "comparison.html",
        title=comparison.title,
        command=comparison.command,
        tables=[_table_view(folder, table) for table in comparison.tables],
        environment=facts({name: value for name, value in comparison.environment.items() if name != "versions"}),
        versions=facts(comparison.environment.get("versions", {})),
    )
    write_atomically(path, page)
    return path


@dataclass(frozen=True)
class RowView:
    """One recipe in the table of scores.

    Attributes:
        step: of its final scores, where rows differ in it.
        cells: metric -> score, and whether it is the best of the table.
        reaches: where its mean curve reaches the first row's final score, in words.
    """

    name: str
    step: int | None
    seeds: int
    cells: dict[str, tuple[Spread | None, bool]]
    ratio: float | None
    reaches: str


@dataclass(frozen=True)
class SweepView:
    """A sweep: scores of the main metric as a table, and a chart for every metric."""

    key: str
    values: list[str]
    rows: list[tuple[str, list[Spread | None]]]
    charts: list[Chart]


@dataclass(frozen=True)
class TableView:
    """What the template shows of one table."""

    title: str
    note: str
    main: str
    metrics: dict[str, str]
    rows: list[RowView]
    steps: list[int]
    curves: list[tuple[str, dict[int, Spread | None]]]
    chart: Chart
    others: list[Chart]
    sweeps: list[SweepView]
    settings: list[tuple[str, list[str]]]
    grids: list[Picture]
    missing: list[str]
    protocol: list[Fact]
    digest: str
    revisions: list[str]


def _table_view(folder: Path, table: ComparisonTable) -> TableView:
    metrics = {table.main: table.metrics[table.main], **table.metrics}
    curves = [(row.name, mean_curve(row.curves, table.main)) for row in table.rows]
    grids, missing = _grids(folder, table)
    return TableView(
        title=table.title,
        note=table.note,
        main=table.main,
        metrics=dict(metrics),
        rows=[_row_view(table, row) for row in table.rows],
        steps=sorted({step for _, curve in curves for step in curve}),
        curves=curves,
        chart=convergence(table, table.main),
        others=[convergence(table, metric) for metric in metrics if metric != table.main],
        sweeps=[_sweep_view(table, sweep, metrics) for sweep in table.sweeps],
        settings=differing_settings([row.settings for row in table.rows]),
        grids=grids,
        missing=missing,
        protocol=facts(table.protocol),
        digest=table.hash,
        revisions=table.revisions,
    )


def _row_view(table: ComparisonTable, row: ComparedRow) -> RowView:
    cells = {metric: (row.final.get(metric), _is_best(table, row, metric)) for metric in table.metrics}
    seeds = max((len(score.values) for score in row.final.values()), default=len(row.seeds))
    unlike = len({other.step for other in table.rows}) > 1
    return RowView(row.name, row.step if unlike else None, seeds, cells, row.ratio, _reaches(table, row))


def _sweep_view(table: ComparisonTable, sweep: Sweep, metrics: Mapping[str, Better]) -> SweepView:
    rows = [(row.name, [scores.get(table.main) for scores in row.scores]) for row in sweep.rows]
    charts = sweep_charts(sweep, metrics, [row.name for row in table.rows])
    return SweepView(sweep.key, [str(value) for value in sweep.values], rows, charts)


def differing_settings(recipes: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return every value that is not the same in all recipes: its key, and what it is in each ("" where it is not)."""
    flat = [dict(_leaves(recipe, "")) for recipe in recipes]
    keys = dict.fromkeys(key for values in flat for key in values)
    return [(key, found) for key in keys if len(set(found := [values.get(key, "") for values in flat])) > 1]


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", plain(value)


def _is_best(table: ComparisonTable, row: ComparedRow, metric: str) -> bool:
    means = [other.final[metric].mean for other in table.rows if metric in other.final]
    if len(means) < 2 or metric not in row.final:
        return False
    return row.final[metric].mean == (min if table.metrics[metric] == "lower" else max)(means)


def _reaches(table: ComparisonTable, row: ComparedRow) -> str:
    if row is table.rows[0]:
        return ""
    if row.reaches_first is None:
        return "never"
    return f"step {row.reaches_first:,.0f}" + (f", {row.faster:.2g}\u00d7 faster" if row.faster is not None else "")


def _grids(folder: Path, table: ComparisonTable) -> tuple[list[Picture], list[str]]:
    """Return the sample grids, and the names of those that cannot be read."""
    pictures, missing = [], []
    for grid in table.grids:
        try:
            alt = f"Grid of images generated by {grid.name}"
            pictures.append(embed(folder / grid.picture, caption=grid.name, alt=alt, widest=SMALLER))
        except UnreadableFile:
            missing.append(grid.picture)
    return pictures, missing
