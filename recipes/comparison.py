"""Several recipes, several seeds, one table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..backends.errors import UserError
from .recipe import load

Curve = dict[int, float]
"""Step -> score."""


@dataclass(frozen=True)
class Row:
    """One recipe in the table: final scores by seed, the mean curve, and how it stands against the first recipe."""

    name: str
    finals: list[float]
    curve: Curve
    ratio: float
    reaches_first: float | None


def compare_recipes(recipes: Sequence[str], *, seeds: int, overrides: Sequence[str], root: Path) -> str:
    """Run every recipe with seeds 0 .. seeds-1, unless it has been run, and return a Markdown table.

    Raises:
        UserError: a recipe is wrong, or asks for no score.
    """
    loaded = {name: [load(name, [*overrides, f"train.seed={seed}"]) for seed in range(seeds)] for name in recipes}
    first = loaded[recipes[0]][0].settings.evaluate
    if not first.samples or not first.metrics:
        raise UserError("compare: the recipes ask for no score; set evaluate.samples and evaluate.metrics")
    metric = first.metrics[0].name
    curves: dict[str, list[Curve]] = {}
    for name, runs in loaded.items():
        curves[name] = [scores_of(recipe.run(root=root).folder, metric) for recipe in runs]
    return table(metric, rows(curves))


def scores_of(folder: Path, metric: str) -> Curve:
    """Return the scores of a run by step."""
    records = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "evaluation").glob("step-*.json"))
    ]
    return {record["step"]: record["scores"][metric] for record in records}


def rows(curves: Mapping[str, Sequence[Curve]]) -> list[Row]:
    """Return the table's rows; the first recipe is what the others are measured against. Lower scores are better."""
    means = {name: mean_curve(runs) for name, runs in curves.items()}
    baseline = next(iter(means.values()))
    goal = baseline[max(baseline)]
    return [
        Row(
            name=Path(name).stem,
            finals=[run[max(run)] for run in runs],
            curve=means[name],
            ratio=means[name][max(means[name])] / goal,
            reaches_first=step_reaching(means[name], goal),
        )
        for name, runs in curves.items()
    ]


def mean_curve(runs: Sequence[Curve]) -> Curve:
    """Return the mean over runs at the steps that all have."""
    shared = set.intersection(*(set(run) for run in runs))
    return {step: statistics.fmean(run[step] for run in runs) for step in sorted(shared)}


def step_reaching(curve: Curve, goal: float) -> float | None:
    """Return the step at which a curve first comes down to a goal, linear between scores; None if it never does."""
    before: tuple[int, float] | None = None
    for step, score in sorted(curve.items()):
        if score <= goal:
            if before is None or before[1] == score:
                return float(step)
            share = (before[1] - goal) / (before[1] - score)
            return before[0] + share * (step - before[0])
        before = (step, score)
    return None


def table(metric: str, table_rows: Sequence[Row]) -> str:
    """Return rows as Markdown: the mean at each step, the final mean and spread, and both comparisons."""
    steps = sorted(set.intersection(*(set(row.curve) for row in table_rows)))
    first = table_rows[0]
    head = ["recipe", *(f"{step:,}" for step in steps), f"final {metric}", "ratio", f"reaches {first.name}'s final at"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in table_rows:
        spread = statistics.stdev(row.finals) if len(row.finals) > 1 else 0.0
        reached = "never" if row.reaches_first is None else f"step {row.reaches_first:,.0f}"
        cells = [row.name, *(f"{row.curve[step]:.2f}" for step in steps)]
        cells += [
            f"{statistics.fmean(row.finals):.2f} +- {spread:.2f} (n={len(row.finals)})",
            f"{row.ratio:.2f}",
            reached,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
