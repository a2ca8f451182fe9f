"""Charts as inline SVG, drawn here and not by a plotting library.

A library writes its own colours, fonts and sizes into the file. These charts take them from the page's style sheet
(`currentColor` and variables), so that one drawing serves light, dark and paper; they are a few kilobytes each, and
running training needs no plotting library.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from .axes import Axis, point_axis, step_axis, value_axis
from .charts import Chart, Points, Series, is_finite, thinned
from .numbers import number

COLOURS = 8
DASHES = ("", "7 4", "2 4", "9 3 2 3", "12 4")
MARKERS = (
    "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
    "M-3 -3h6v6h-6z",
    "M0-4.2l4 7h-8z",
    "M0-4.4l4.4 4.4L0 4.4l-4.4-4.4z",
)
MARKED = 24
"""Lines of at most so many points have a marker, and a tooltip, at each."""
HOVERED = 40
"""Places of the horizontal axis at which a pointer is told all values."""
NAMED = 28
"""Characters of a line's name that are shown beside a value."""
TEXT = 6.7
"""Width of a digit at the size of the labels, 12."""


@dataclass(frozen=True)
class Size:
    """Of a drawing, in units of the page's pixels when it is shown at its natural width."""

    width: int
    height: int


SMALL, LARGE, NARROW = Size(350, 215), Size(1040, 420), Size(350, 300)


def draw(chart: Chart, size: Size = SMALL) -> Markup:
    """Return a chart as an `<svg>` element."""
    values = chart.values()
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        size.width, size.height, chart.summary
    )
    if not values:
        empty = Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">no finite value yet</text>')
        return head + empty.format(size.width / 2, size.height / 2) + Markup("</svg>")
    return head + Markup("").join(_Drawing(chart, size, values).parts()) + Markup("</svg>")


def swatch(index: int) -> Markup:
    """Return the line of a legend: colour, dash and marker of a series."""
    line = Markup('<path class="line" d="M1 6h28" {}/>').format(_dash(index))
    return Markup('<svg class="swatch s{}" viewBox="0 0 30 12" aria-hidden="true">{}{}</svg>').format(
        index % COLOURS, line, _marker(index, 15, 6)
    )


def goal_swatch() -> Markup:
    """Return the line of a legend of a chart's goal."""
    return Markup('<svg class="swatch" viewBox="0 0 30 12" aria-hidden="true"><path class="goal" d="M1 6h28"/></svg>')


class _Drawing:
    """One chart at one size."""

    def __init__(self, chart: Chart, size: Size, values: list[float]) -> None:
        self.chart, self.size = chart, size
        top, bottom = 12 + 15 * len(chart.marks), size.height - 34
        self.y = value_axis(values, bottom, top, max(3, (bottom - top) // 36))
        left = 14 + TEXT * max(len(label) for _, label in self.y.ticks)
        self.x = self._x_axis(left, size.width - 16)

    def _x_axis(self, left: float, right: float) -> Axis:
        if self.chart.x_ticks:
            return point_axis(self.chart.x_ticks, left, right)
        places = [place for series in self.chart.series for place, _ in series.points]
        places += [mark.x for mark in self.chart.marks]
        longest = len(number(max(places)))
        return step_axis(places, left, right, max(3, int((right - left) / (TEXT * longest + 22))))

    def parts(self) -> Iterator[Markup]:
        yield from self._grid()
        for index, series in zip(self.chart.styles(), self.chart.series, strict=True):
            yield Markup('<g class="s{}">').format(index % COLOURS)
            for seed in series.seeds:
                yield Markup('<path class="thin" d="{}"/>').format(self._path(seed))
            yield from self._line(index, series)
            yield Markup("</g>")
        yield from self._goal()
        yield from self._marks()
        yield from self._hovered()

    def _grid(self) -> Iterator[Markup]:
        left, right, bottom = self.x.start, self.x.stop, self.y.start
        for value, label in self.y.ticks:
            y = round(self.y.place(value), 1)
            yield Markup('<path class="grid" d="M{} {}H{}"/>').format(round(left, 1), y, right)
            yield Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>').format(
                round(left - 7, 1), y + 4, label
            )
        yield Markup('<path class="axis" d="M{} {}H{}"/>').format(round(left, 1), bottom, right)
        for value, label in self.x.ticks:
            x = round(self.x.place(value), 1)
            half = TEXT * len(label) / 2
            text_x = round(min(max(x, half), self.size.width - half - 1), 1)
            yield Markup('<path class="axis" d="M{} {}v4"/>').format(x, bottom)
            yield Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                text_x, bottom + 17, label
            )
        yield Markup('<text class="tick name" x="{}" y="{}" text-anchor="end">{}</text>').format(
            right, bottom + 31, self.chart.x_name
        )

    def _line(self, index: int, series: Series) -> Iterator[Markup]:
        points = thinned(series.points)
        tip = f"{series.name}: {number(series.last)} at the end"
        yield Markup('<path class="line" d="{}" {}><title>{}</title></path>').format(
            self._path(points), _dash(index), tip
        )
        for (place, value), error in zip(points, series.errors, strict=False):
            if is_finite(value) and error > 0:
                x, ends = round(self.x.place(place), 1), [round(self.y.place(value + e), 1) for e in (-error, error)]
                yield Markup('<path class="bar" d="M{} {}V{}M{} {}h8M{} {}h8"/>').format(
                    x, *ends, round(x - 4, 1), ends[0], round(x - 4, 1), ends[1]
                )
        if len(points) <= MARKED:
            yield from (self._point(index, series, at) for at, (_, value) in enumerate(points) if is_finite(value))

    def _point(self, index: int, series: Series, at: int) -> Markup:
        place, value = series.points[at]
        assert value is not None
        labels = dict(self.chart.x_ticks)
        spread = f" ± {number(series.errors[at])}" if at < len(series.errors) else ""
        where = f"{self.chart.x_name} {labels.get(place, number(place))}"
        tip = f"{series.name}, {where}: {number(value)}{spread}"
        return _marker(index, self.x.place(place), self.y.place(value), tip)

    def _goal(self) -> Iterator[Markup]:
        if self.chart.goal is None:
            return
        y = round(self.y.place(self.chart.goal[0]), 1)
        yield Markup('<path class="goal" d="M{} {}H{}"/>').format(round(self.x.start, 1), y, self.x.stop)

    def _marks(self) -> Iterator[Markup]:
        """Draw the marks: a line up to a label each, one label a row, so that none covers another."""
        for row, mark in enumerate(sorted(self.chart.marks, key=lambda mark: mark.x)):
            x, y, label_y = round(self.x.place(mark.x), 1), round(self.y.place(mark.y), 1), 12 + 15 * row
            late = x + 8 + TEXT * len(mark.text) > self.size.width
            yield Markup('<g class="s{}"><path class="lead-line" d="M{} {}V{}"/>').format(
                mark.series % COLOURS, x, y, label_y + 4
            )
            yield Markup('<circle class="cross" cx="{}" cy="{}" r="5"/>').format(x, y)
            yield Markup('<text class="mark" x="{}" y="{}" text-anchor="{}">{}</text></g>').format(
                x - 5 if late else x + 5, label_y, "end" if late else "start", mark.text
            )

    def _hovered(self) -> Iterator[Markup]:
        """Draw a strip for each place, over everything else, and what is shown while a pointer is in it."""
        places = _spread_out(sorted({place for series in self.chart.series for place, _ in series.points}))
        xs = [self.x.place(place) for place in places]
        edges = [self.x.start - 4, *((one + other) / 2 for one, other in pairwise(xs)), self.x.stop + 4]
        top, bottom = self.y.stop, self.y.start
        for place, x, left, right in zip(places, xs, edges[:-1], edges[1:], strict=True):
            yield Markup('<g class="at"><path class="axis" d="M{} {}V{}"/>').format(round(x, 1), top, bottom)
            yield from self._values_at(place, late=x > (self.x.start + self.x.stop) / 2)
            yield Markup('<rect class="strip" x="{}" y="{}" width="{}" height="{}"/></g>').format(
                round(left, 1), top, round(max(0.0, right - left), 1), bottom - top
            )

    def _values_at(self, place: float, *, late: bool) -> Iterator[Markup]:
        """Write all values at a place, on the side of the drawing where it is not."""
        labels = dict(self.chart.x_ticks)
        found = [(f"{self.chart.x_name} {labels.get(place, number(place))}", "")]
        for index, series in zip(self.chart.styles(), self.chart.series, strict=True):
            value = dict(series.points).get(place)
            if is_finite(value):
                name = series.name if len(series.name) <= NAMED else f"{series.name[: NAMED - 1]}\u2026"
                found.append((f"{name} {number(value)}", f"s{index % COLOURS}"))
        x, anchor = (self.x.start + 6, "start") if late else (self.x.stop, "end")
        for row, (text, style) in enumerate(found):
            yield Markup('<text class="told {}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
                style, round(x, 1), self.y.stop + 12 + 14 * row, anchor, text
            )

    def _path(self, points: Points) -> str:
        """Return a path through points, broken where a value is missing; a point between two gaps becomes a dot."""
        pieces: list[list[str]] = [[]]
        for place, value in thinned(points):
            if not is_finite(value):
                pieces.append([])
            else:
                pieces[-1].append(f"{self.x.place(place):.1f} {self.y.place(value):.1f}")
        return "".join(f"M{'L'.join(piece)}{'h0' if len(piece) == 1 else ''}" for piece in pieces if piece)


def _spread_out(places: list[float]) -> list[float]:
    """Return at most about `HOVERED` of places, evenly, the last among them."""
    every = -(-len(places) // HOVERED)
    return places[::-1][:: every or 1][::-1]


def _dash(index: int) -> Markup:
    dash = DASHES[index % len(DASHES)]
    return Markup('stroke-dasharray="{}"').format(dash) if dash else Markup("")


def _marker(index: int, x: float, y: float, tip: str = "") -> Markup:
    title = Markup("<title>{}</title>").format(tip) if tip else Markup("")
    return Markup('<path class="point" transform="translate({} {})" d="{}">{}</path>').format(
        round(x, 1), round(y, 1), MARKERS[index % len(MARKERS)], title
    )
