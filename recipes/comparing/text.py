"""A comparison as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from ...backends.reporting.comparison_data import ComparedRow, Comparison, ComparisonTable, Spread, Sweep
from .curves import mean_curve

STEPS_SHOWN = 5


def markdown(comparison: Comparison) -> str:
    """Return every table: the main score over steps, all scores at the end, and sweeps."""
    return "\n\n".join(block for table in comparison.tables for block in _blocks(table))


def _blocks(table: ComparisonTable) -> Iterator[str]:
    if table.title:
        yield f"### {table.title}"
    yield _over_steps(table)
    if len(table.metrics) > 1:
        yield _all_scores(table)
    yield from (_swept(table, sweep) for sweep in table.sweeps)
    revisions = f"; scores by revisions {', '.join(table.revisions)}" if len(table.revisions) > 1 else ""
    yield "\n".join(filter(None, [table.note, f"protocol {table.hash}{revisions}"]))


def _over_steps(table: ComparisonTable) -> str:
    means = {row.name: mean_curve(_curves(row, table.main)) for row in table.rows}
    shared = set.intersection(*(set(mean) for mean in means.values()))
    steps = _few(sorted(shared or set().union(*means.values())))
    unlike = len({row.step for row in table.rows}) > 1
    first = table.rows[0].name
    head = ["", *(f"{step:,}" for step in steps), f"final {table.main}", "ratio", f"reaches {first}'s final at"]
    return _table(
        head,
        (
            [
                row.name,
                *(f"{means[row.name][step]:.2f}" if step in means[row.name] else "" for step in steps),
                f"{_spread(row.final[table.main])} (n={len(row.seeds)})" + (f" at step {row.step:,}" if unlike else ""),
                "" if row.ratio is None else f"{row.ratio:.2f}",
                _reached(row),
            ]
            for row in table.rows
        ),
    )


def _reached(row: ComparedRow) -> str:
    if row.reaches_first is None or row.faster is None:
        return "never"
    step = f"step {row.reaches_first:,.0f}"
    return step if round(row.faster, 1) == 1 else f"{step} ({row.faster:.1f}x faster)"


def _all_scores(table: ComparisonTable) -> str:
    names = list(table.metrics)
    head = ["", *(f"{name} ({way} is better)" for name, way in table.metrics.items())]
    return _table(head, ([row.name, *(_spread(row.final[name]) for name in names)] for row in table.rows))


def _swept(table: ComparisonTable, sweep: Sweep) -> str:
    head = [f"{table.main} by {sweep.key}", *map(str, sweep.values)]
    return _table(head, ([row.name, *(_spread(each[table.main]) for each in row.scores)] for row in sweep.rows))


def _curves(row: ComparedRow, metric: str) -> list[dict[int, float]]:
    found = [{step: scores[metric] for step, scores in curve.items()} for curve in row.curves]
    return [{step: score for step, score in curve.items() if score is not None} for curve in found]


def _few(steps: list[int]) -> list[int]:
    """Return at most a handful of steps, evenly spread, the last among them."""
    apart = -(-len(steps) // STEPS_SHOWN)
    return steps[::-1][::apart][::-1]


def _spread(value: Spread) -> str:
    digits = 2 if abs(value.mean) >= 10 else 4 if abs(value.mean) < 0.1 else 3
    # One seed has no spread, which is not a spread of nothing.
    return f"{value.mean:.{digits}f}" + (f" +- {value.spread:.{digits}f}" if len(value.values) > 1 else "")


def _table(head: list[str], rows: Iterator[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])
