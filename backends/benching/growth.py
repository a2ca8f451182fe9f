"""One plot of how the time of a step grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..reporting.charts import Chart, Series
from ..reporting.page import render
from .results import Report
from .rounds import Spread

ALONE = "streams, separate"


@dataclass(frozen=True)
class Point:
    """One variant.

    Attributes:
        axis: what is varied; empty for what all others vary.
        factor: by how much.
        seconds: of a step.
        predicted: seconds of the unvaried step, times as many as there is more arithmetic.
    """

    axis: str
    factor: float
    seconds: Spread
    predicted: float


def growth_page(title: str, points: Sequence[Point], report: Report) -> str:
    """Return a self-contained page: the plot, its numbers, and what they depend on."""
    facts = [{"name": name, "value": value} for name, value in report.conditions.items()]
    rounds = [{"name": "rounds", "value": f"{report.rounds}, all variants in turn"}]
    return render("growth.html", title=title, chart=growth_chart(points), points=points, facts=[*facts, *rounds])


def growth_chart(points: Sequence[Point]) -> Chart:
    """Return the plot: seconds over factors, both logarithmic; predictions are thin."""
    base = next(point for point in points if not point.axis)
    axes = list(dict.fromkeys(point.axis for point in points if point.axis))
    factors = sorted({point.factor for point in points})
    return Chart(
        "seconds",
        "Seconds a training step",
        [_series(axis, _line(axis, base, points)) for axis in axes],
        x_name="times as many",
        x_ticks=[(math.log2(factor), _times(factor)) for factor in factors],
    )


def _line(axis: str, base: Point, points: Sequence[Point]) -> list[Point]:
    own = [point for point in points if point.axis == axis]
    if axis == ALONE:
        # It begins where the other fusion does: with the image alone.
        return [*(point for point in points if point.axis == "streams, merged"), *own]
    return sorted([base, *own], key=lambda point: point.factor)


def _series(axis: str, line: Sequence[Point]) -> Series:
    places = [math.log2(point.factor) for point in line]
    measured = [(place, point.seconds.median) for place, point in zip(places, line, strict=True)]
    predicted = [(place, point.predicted) for place, point in zip(places, line, strict=True)]
    return Series(axis, measured, seeds=[predicted])


def _times(factor: float) -> str:
    return f"1/{round(1 / factor)}" if factor < 1 else f"{factor:g}"
