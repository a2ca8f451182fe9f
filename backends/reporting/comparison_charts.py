"""The charts of a comparison: scores over steps, and over the values of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from .charts import Chart, Mark, Series
from .comparison_data import Better, ComparisonTable, Curve, Spread, Sweep
from .numbers import number

CLOSE = 0.09
"""Values of a sweep nearer to each other than this share of the range are set side by side at even distances."""


def mean_curve(curves: Sequence[Curve], metric: str) -> dict[int, Spread | None]:
    """Return mean and spread at the steps that all seeds have; None where a seed's score was not finite."""
    steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    found = {step: [curve[step].get(metric) for curve in curves] for step in steps}
    finite = {step: [value for value in values if value is not None] for step, values in found.items()}
    return {step: Spread.of(values) if len(values) == len(curves) else None for step, values in finite.items()}


def convergence(table: ComparisonTable, metric: str) -> Chart:
    """Return a metric over steps: means with their seeds; of the main one also where each reaches the first's final."""
    main = metric == table.main
    first = table.rows[0]
    goal = first.final.get(metric) if len(table.rows) > 1 else None
    return Chart(
        name=metric,
        title=metric,
        better=table.metrics.get(metric, ""),
        series=[
            Series(
                row.name,
                [(step, score.mean if score else None) for step, score in mean_curve(row.curves, metric).items()],
                seeds=[[(step, curve[step].get(metric)) for step in sorted(curve)] for curve in row.curves]
                if len(row.curves) > 1
                else (),
            )
            for row in table.rows
        ],
        goal=(goal.mean, f"{first.name} ends at {number(goal.mean)}") if main and goal else None,
        marks=_crossings(table, goal.mean) if main and goal else (),
    )


def _crossings(table: ComparisonTable, goal: float) -> list[Mark]:
    marks = []
    for index, row in enumerate(table.rows[1:], start=1):
        if row.reaches_first is not None:
            saved = f": {row.faster:.2g}\u00d7 faster" if row.faster is not None else ""
            marks.append(Mark(row.reaches_first, goal, index, f"{row.name} at step {row.reaches_first:,.0f}{saved}"))
    return marks


def sweep_charts(sweep: Sweep, metrics: Mapping[str, Better], rows: Sequence[str] = ()) -> list[Chart]:
    """Return one chart for every metric, over the values of a sweep.

    Args:
        rows: names of the table's rows: a row looks the same in all charts, whichever are swept.
    """
    styles = {name: index for index, name in enumerate(rows)}
    places = _places(sweep.values)
    ticks = [(place, _label(value)) for place, value in zip(places, sweep.values, strict=True)]
    charts = []
    for metric, better in metrics.items():
        series = []
        for row in sweep.rows:
            found = [scores.get(metric) for scores in row.scores]
            points = [(place, score.mean if score else None) for place, score in zip(places, found, strict=False)]
            errors = [score.spread if score else 0.0 for score in found]
            series.append(Series(row.name, points, errors=errors, style=styles.get(row.name)))
        if any(line.last is not None for line in series):
            charts.append(Chart(metric, metric, series, x_name=sweep.key, better=better, x_ticks=ticks))
    return charts


def _places(values: Sequence[float | str]) -> list[float]:
    """Return where the values of a sweep lie: at themselves, or evenly if they are names or too close to tell apart."""
    numbers = [float(value) for value in values if not isinstance(value, str)]
    even = [float(index) for index in range(len(values))]
    if len(numbers) < len(values) or numbers != sorted(set(numbers)):
        return even
    gaps = [after - before for before, after in pairwise(numbers)]
    return even if gaps and min(gaps) < CLOSE * (numbers[-1] - numbers[0]) else numbers


def _label(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
