"""What a chart shows, apart from how it is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from .axes import spans_widely
from .numbers import number

Points = Sequence[tuple[float, float | None]]
"""Places and values in order; None where a value was not finite, which breaks the line."""


def is_finite(value: float | None) -> TypeGuard[float]:
    """Return whether there is a value to draw."""
    return value is not None and math.isfinite(value)


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        seeds: thin lines beside it, one a seed.
        errors: half the length of an error bar at each point, if there are any.
        style: number of its colour, dash and marker; its place in the chart, unless what it shows has one everywhere.
    """

    name: str
    points: Points
    seeds: Sequence[Points] = ()
    errors: Sequence[float] = ()
    style: int | None = None

    def values(self) -> Iterator[float]:
        """Yield everything that the vertical axis has to span."""
        for points in (self.points, *self.seeds):
            yield from (value for _, value in points if is_finite(value))
        for (_, value), error in zip(self.points, self.errors, strict=False):
            if is_finite(value):
                yield from (value - error, value + error)

    @property
    def last(self) -> float | None:
        """The last finite value."""
        return next((value for _, value in reversed(self.points) if is_finite(value)), None)


@dataclass(frozen=True)
class Mark:
    """A place on a line to point at, with a few words."""

    x: float
    y: float
    series: int
    text: str


@dataclass(frozen=True)
class Chart:
    """Lines over one axis.

    Attributes:
        name: the logged name of what is drawn, to find it by.
        better: which values are better ("lower", "higher"), if that is known.
        goal: a horizontal line, and what the legend says of it.
        x_ticks: the only ticks of the horizontal axis, where it is not steps.
    """

    name: str
    title: str
    series: Sequence[Series]
    x_name: str = "step"
    better: str = ""
    goal: tuple[float, str] | None = None
    marks: Sequence[Mark] = ()
    x_ticks: Sequence[tuple[float, str]] = ()

    def styles(self) -> list[int]:
        """Return the number of every line's colour, dash and marker."""
        return [index if series.style is None else series.style for index, series in enumerate(self.series)]

    def values(self) -> list[float]:
        """Return everything that the vertical axis has to span."""
        found = [value for series in self.series for value in series.values()]
        return [*found, self.goal[0]] if found and self.goal else found

    @property
    def log(self) -> bool:
        """Whether the vertical axis is logarithmic."""
        return spans_widely(self.values())

    @property
    def summary(self) -> str:
        """What the chart says, for those who do not see it."""
        lines = [f"{series.name} ends at {number(series.last)}" for series in self.series]
        return f"{self.title} over {self.x_name}: {'; '.join(lines)}"


def thinned(points: Points, most: int = 600) -> Points:
    """Return at most about so many points that look the same: of each stretch the lowest and the highest.

    Gaps stay.
    """
    if len(points) <= most:
        return points
    length = math.ceil(2 * len(points) / most)
    kept: list[tuple[float, float | None]] = []
    for begin in range(0, len(points), length):
        stretch = points[begin : begin + length]
        finite = sorted((value, place) for place, value in stretch if is_finite(value))
        chosen = {finite[0][1], finite[-1][1]} if finite else set()
        # The ends stay as they are: the last value is what a reader looks for.
        chosen |= {points[0][0], points[-1][0]}
        kept += [(place, value) for place, value in stretch if not is_finite(value) or place in chosen]
    return kept
