"""Scores over steps: means over seeds, and when one curve reaches what another ends at."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from ...backends.reporting.comparison_data import Better

Curve = Mapping[int, float]
"""Step -> score."""


def mean_curve(runs: Sequence[Curve]) -> dict[int, float]:
    """Return the mean over runs at the steps that all have."""
    shared = set.intersection(*(set(run) for run in runs))
    return {step: statistics.fmean(run[step] for run in runs) for step in sorted(shared)}


def step_reaching(curve: Curve, goal: float, better: Better = "lower") -> float | None:
    """Return the step at which a curve first gets as good as a goal, linear between scores; None if it never does."""
    sign = 1 if better == "lower" else -1
    before: tuple[int, float] | None = None
    for step, score in sorted(curve.items()):
        if sign * score <= sign * goal:
            if before is None or before[1] == score:
                return float(step)
            share = (before[1] - goal) / (before[1] - score)
            return before[0] + share * (step - before[0])
        before = (step, score)
    return None
