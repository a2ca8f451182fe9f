from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from report_samples import METRICS, compared_row

from latsem.backends.reporting.axes import Axis, point_axis, step_axis, value_axis
from latsem.backends.reporting.charts import Chart, Mark, Series, thinned
from latsem.backends.reporting.comparison_charts import convergence, mean_curve, sweep_charts
from latsem.backends.reporting.comparison_data import ComparisonTable, Spread, Sweep, SweepRow
from latsem.backends.reporting.numbers import linear_ticks, log_ticks, number, spread_beside, tick_label, tick_step
from latsem.backends.reporting.svg import LARGE, NARROW, SMALL, Size, draw, swatch

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\u2013"),
        (NAN, "\u2013"),
        (math.inf, "\u2013"),
        (0, "0"),
        (2000, "2,000"),
        (1234567.8, "1,234,568"),
        (72.9166, "72.92"),
        (-72.9166, "-72.92"),
        (280.93, "280.9"),
        (3.285, "3.285"),
        (0.47, "0.470"),
        (0.5, "0.5"),
        (0.001, "0.001"),
        (2e-6, "2e-6"),
        (1e20, "100,000,000,000,000,000,000"),
    ],
)
def test_numbers_are_short_and_readable(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_spread_has_the_decimals_of_its_value() -> None:
    assert spread_beside(2.0941, 72.916) == "2.09"
    assert spread_beside(0.0123456, 0.694) == "0.012"
    assert spread_beside(0.5, 70.0) == "0.5" and spread_beside(1e-7, 2.34e-6) == "1e-7"


@pytest.mark.parametrize("most", [3, 4, 8])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 2000), (34.2, 97.1), (-3, 7), (1e-7, 3e-7), (0, 400_000)])
def test_ticks_are_round_even_and_few(low: float, high: float, most: int) -> None:
    step = tick_step(high - low, most)
    ticks = linear_ticks(low, high, step)
    assert 1 <= len(ticks) <= most and all(low - 1e-12 <= tick <= high * (1 + 1e-9) for tick in ticks)
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in {1, 2, 5}
    assert all(after - before == pytest.approx(step) for before, after in pairwise(ticks))
    labels = [tick_label(tick, step) for tick in ticks]
    assert len(set(labels)) == len(labels)
    assert all(
        float(label.replace(",", "")) == pytest.approx(tick, rel=0.01)
        for label, tick in zip(labels, ticks, strict=True)
    )


@pytest.mark.parametrize(("low", "high"), [(0.4, 4.6), (1e-6, 1e-3), (1, 1e12), (2.1, 2.2)])
def test_logarithmic_ticks_are_few_and_within(low: float, high: float) -> None:
    ticks = log_ticks(low, high, 5)
    assert 1 <= len(ticks) <= 5 and ticks == sorted(set(ticks))
    assert low * (1 - 1e-9) <= ticks[0] and ticks[-1] <= high * (1 + 1e-9)


def test_axes_hold_their_values_and_end_at_round_numbers() -> None:
    axis = value_axis([34.2, 97.1], 200, 0, 5)
    assert (axis.low, axis.high, axis.log) == (20, 100, False)
    assert axis.place(20) == 200 and axis.place(100) == 0 and axis.place(60) == 100
    wide = value_axis([0.01, 1, 100], 200, 0, 5)
    assert wide.log and wide.place(1) == pytest.approx(100) and 0 < wide.place(100) < wide.place(0.01) < 200
    assert not value_axis([0.0, 100.0], 200, 0, 5).log and not value_axis([-1.0, 100.0], 200, 0, 5).log


def test_axes_of_nothing_of_one_value_and_of_late_steps() -> None:
    for values in ([], [3.0], [0.0], [5.0, 5.0], [-2.0]):
        axis = value_axis(values, 200, 0, 5)
        assert axis.low < axis.high and all(0 <= axis.place(value) <= 200 for value in values)
        assert len(axis.ticks) >= 2
    assert step_axis([50, 2000], 0, 100, 4).low == 0
    assert step_axis([90_000, 100_000], 0, 100, 4).low == 90_000
    assert [label for _, label in step_axis([0, 4], 0, 100, 9).ticks] == ["0", "1", "2", "3", "4"]
    assert step_axis([7], 0, 100, 4).place(7) == 50
    axis: Axis = point_axis([(1.0, "a")], 0, 100)
    assert axis.place(1.0) == 50


def shown(chart: Chart, size: Size = SMALL) -> ElementTree.Element:
    """Return a chart as XML: it is well-formed, and no coordinate of a line lies outside."""
    root = ElementTree.fromstring(draw(chart, size))  # noqa: S314 - our own
    for path in root.iter("path"):
        if path.get("class") in {"line", "thin"}:
            for pair in path.get("d", "").replace("M", "L").replace("h0", "").split("L")[1:]:
                x, y = (float(text) for text in pair.split())
                assert 0 <= x <= size.width and 0 <= y <= size.height
    assert root.get("role") == "img" and chart.title in root.get("aria-label", "")
    return root


def lines(root: ElementTree.Element, kind: str = "line") -> list[str]:
    return [path.get("d", "") for path in root.iter("path") if path.get("class") == kind]


def test_a_chart_without_a_finite_value_says_so() -> None:
    for series in ([], [Series("loss", [])], [Series("loss", [(1, None), (2, None)])], [Series("loss", [(1, NAN)])]):
        root = shown(Chart("loss", "Loss", series))
        assert [text.text for text in root.iter("text")] == ["no finite value yet"] and not lines(root)


def test_one_point_is_a_marker_with_its_value() -> None:
    root = shown(Chart("loss", "Loss", [Series("loss", [(50, 4.5)])]))
    (point,) = [path for path in root.iter("path") if path.get("class") == "point"]
    assert [title.text for title in point.iter("title")] == ["loss, step 50: 4.500"]
    assert lines(root)[0].endswith("h0")


@pytest.mark.parametrize("missing", [None, NAN, math.inf])
def test_what_is_not_finite_breaks_a_line(missing: float | None) -> None:
    points = [(1, 1.0), (2, 2.0), (3, missing), (4, 3.0), (5, missing), (6, 1.0), (7, 2.0)]
    (path,) = lines(shown(Chart("loss", "Loss", [Series("loss", points)])))
    assert path.count("M") == 3 and path.count("h0") == 1


def test_every_series_looks_different_and_keeps_its_style() -> None:
    many = [Series(f"s{index}", [(0, index), (1, index + 1)]) for index in range(16)]
    root = shown(Chart("x", "X", many))
    looks = {
        (group.get("class"), path.get("stroke-dasharray"))
        for group in root.iter("g")
        for path in group.iter("path")
        if path.get("class") == "line"
    }
    assert len(looks) == 16
    assert Chart("x", "X", [Series("a", [], style=4), Series("b", [])]).styles() == [4, 1]
    assert "s4" in swatch(4) and swatch(3) != swatch(4)


def test_seeds_bars_goal_and_marks_are_drawn() -> None:
    series = [
        Series("a", [(0, 1.0), (10, 3.0)], seeds=[[(0, 0.5), (10, 2.5)], [(0, 1.5), (10, 3.5)]]),
        Series("b", [(0, 4.0), (10, 2.0)], errors=[0.5, 0.0]),
    ]
    marks = [Mark(5, 2.5, 1, "b at 5"), Mark(9.9, 2.5, 0, "a at 9.9, quite late")]
    for size in (SMALL, LARGE, NARROW):
        root = shown(Chart("x", "X", series, goal=(2.5, "a ends"), marks=marks), size)
        assert len(lines(root, "thin")) == 2 and len(lines(root, "bar")) == 1 and len(lines(root, "goal")) == 1
        labels = [text for text in root.iter("text") if text.get("class") == "mark"]
        assert [label.get("text-anchor") for label in labels] == ["start", "end"]
        assert len({label.get("y") for label in labels}) == 2, "no label covers another"


def test_long_logs_are_thinned_without_losing_a_spike_or_a_gap() -> None:
    values: list[tuple[float, float | None]] = [(step, math.sin(step / 900)) for step in range(10_000)]
    values[4321], values[7000] = (4321, 50.0), (7000, None)
    kept = thinned(values, most=300)
    assert len(kept) <= 600 and kept[0] == values[0] and kept[-1] == values[-1]
    assert (4321, 50.0) in kept and (7000, None) in kept and [x for x, _ in kept] == sorted({x for x, _ in kept})
    assert len(draw(Chart("x", "X", [Series("x", values)]))) < 30_000
    assert thinned(values[:300], most=300) == values[:300]


def test_hostile_names_stay_text() -> None:
    name = '"><script>alert(1)</script>'
    chart = Chart(name, name, [Series(name, [(0, 1.0)])], x_name=name, goal=(1.0, name), marks=[Mark(0, 1.0, 0, name)])
    assert "<script" not in draw(chart) and name in [text.text for text in shown(chart).iter("text")]


def table(**more: object) -> ComparisonTable:
    rows = [compared_row(name) for name in ("pixel_jit", "pixel_redi", "pixel_coredi")]
    values = {"title": "t", "metrics": METRICS, "main": "frechet", "rows": rows, **more}
    return ComparisonTable.model_validate(values)


def test_convergence_has_means_seeds_the_goal_and_who_reaches_it() -> None:
    chart = convergence(table(), "frechet")
    first = chart.series[0]
    assert first.last == pytest.approx(72 + 60 * math.exp(-5)) and len(first.seeds) == 3
    assert chart.goal is not None and chart.goal[0] == first.last
    (mark,) = chart.marks
    assert (mark.x, mark.series, mark.text) == (400.0, 1, "pixel_redi at step 400: 5\u00d7 faster")
    other = convergence(table(), "precision")
    assert other.goal is None and not other.marks and other.better == "higher"
    alone = convergence(table(rows=[compared_row("pixel_jit", 1)]), "frechet")
    assert alone.goal is None and not alone.series[0].seeds


def test_a_mean_is_of_steps_that_all_seeds_have() -> None:
    curves = [{1: {"x": 1.0}, 2: {"x": 2.0}, 3: {"x": 1.0}}, {1: {"x": 3.0}, 2: {"x": None}, 4: {"x": 1.0}}]
    assert mean_curve(curves, "x") == {1: Spread.of([1.0, 3.0]), 2: None}
    assert mean_curve([], "x") == {}


def test_sweeps_lie_at_their_values_or_side_by_side() -> None:
    scores = [{"frechet": Spread.of([1.0, 3.0])}, {}, {"frechet": Spread.of([2.0])}]

    def places(*values: float | str) -> list[float]:
        (chart,) = sweep_charts(Sweep(key="k", values=list(values), rows=[SweepRow(name="a", scores=scores)]), METRICS)  # type: ignore[arg-type]
        assert [value for _, value in chart.series[0].points] == [2.0, None, 2.0]
        assert chart.series[0].errors == [pytest.approx(math.sqrt(2)), 0.0, 0.0]
        return [place for place, _ in chart.x_ticks]

    assert places(1, 1.5, 2) == [1, 1.5, 2]
    assert (
        places("euler", "heun", "sde") == places(1, 1.01, 100) == places(3, 2, 1) == places(1, "none", 2) == [0, 1, 2]
    )


def test_a_row_looks_the_same_in_a_sweep_of_some_rows() -> None:
    sweep = Sweep(key="k", values=[1, 2], rows=[SweepRow(name="b", scores=[{"frechet": Spread.of([1.0])}] * 2)])
    (chart,) = sweep_charts(sweep, METRICS, ["a", "b"])
    assert chart.styles() == [1]
