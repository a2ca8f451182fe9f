"""The scores of a run, protocol by protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..run_folder import differences
from .charts import Chart, Points, Series
from .run_files import Record
from .values import Fact, facts

SPREAD = "_std"
"""A score `x_std` is the spread of `x`, and shown beside it."""


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one step: metric -> value and spread."""

    step: int
    cells: Mapping[str, tuple[float | None, float | None]]


@dataclass(frozen=True)
class ScoreGroup:
    """The scores of one protocol, which can be compared with each other.

    Attributes:
        metrics: metric -> "lower", "higher", or empty where it is not known which scores are better.
        changed: in what the protocol differs from the first group's; empty for that one.
        own: whether it is the recipe's own.
    """

    digest: str
    metrics: Mapping[str, str]
    rows: Sequence[ScoreRow]
    protocol: Sequence[Fact]
    changed: Sequence[str]
    own: bool

    @property
    def newest(self) -> ScoreRow:
        """The last row."""
        return self.rows[-1]


def score_groups(records: Sequence[Record]) -> list[ScoreGroup]:
    """Return records by protocol: the recipe's own as of the newest step, then the others, the newest first."""
    by_digest: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.rank, reverse=True):
        by_digest.setdefault(record.digest, []).append(record)
    first = next(iter(by_digest.values()), [])
    return [_group(group, first[0]) for group in by_digest.values()]


def score_charts(groups: Sequence[ScoreGroup]) -> list[Chart]:
    """Return one chart for every metric that has been scored at two steps by one protocol."""
    lines = [group for group in groups if len(group.rows) > 1]
    better = {metric: which for group in lines for metric, which in group.metrics.items()}
    return [
        Chart(
            name=f"score/{metric}",
            title=metric,
            better=which,
            series=[
                Series("score" if len(lines) == 1 else f"protocol {group.digest}", _points(group, metric))
                for group in lines
                if metric in group.metrics
            ],
        )
        for metric, which in better.items()
    ]


def spread_of(metric: str, scores: Mapping[str, float | None]) -> bool:
    """Return whether a score is the spread of another one."""
    return metric.endswith(SPREAD) and metric.removesuffix(SPREAD) in scores


def _points(group: ScoreGroup, metric: str) -> Points:
    return [(row.step, row.cells[metric][0]) for row in group.rows if metric in row.cells]


def _group(records: Sequence[Record], first: Record) -> ScoreGroup:
    metrics = {
        metric: record.better.get(metric, "")
        for record in records
        for metric in record.scores
        if not spread_of(metric, record.scores)
    }
    by_step = {record.step: record for record in sorted(records, key=lambda record: record.rank)}
    rows = [
        ScoreRow(
            step,
            {
                m: (by_step[step].scores[m], by_step[step].scores.get(m + SPREAD))
                for m in metrics
                if m in by_step[step].scores
            },
        )
        for step in sorted(by_step)
    ]
    newest = by_step[max(by_step)]
    changed = differences(dict(first.protocol), dict(newest.protocol)) if newest.digest != first.digest else []
    return ScoreGroup(newest.digest, metrics, rows, facts(newest.protocol), changed, any(r.own for r in records))
