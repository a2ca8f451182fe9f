"""The log of a run as charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .charts import Chart, Series
from .run_files import FIXED, SCORE, SEMANTIC_HEALTH, LogLine

COUNTERS = ("step", "images")
TITLES = {
    "loss": "Loss",
    "gradient_norm": "Gradient norm",
    "error": "Error by stream",
    "std": "Spread by stream",
    "semantic/accuracy": "Semantic stream: accuracy of nearest neighbours",
    "semantic/variance": "Semantic stream: share of the features' variance",
    "semantic/rank": "Semantic stream: effective rank",
    "semantic/neighbours": "Semantic stream: correlation of neighbours",
    "semantic/angle": "Semantic stream: angle to the fixed projection, degrees",
    "lr": "Learning rate",
    "images_per_second": "Images per second",
    "waiting_for_data": "Share of the time waiting for data",
}
"""What is known by a better name than the log's, in the order in which it is shown."""


def training_charts(log: Sequence[LogLine], streams: Mapping[str, Any]) -> list[Chart]:
    """Return everything that was logged but scores: `loss` with the loss of every stream, and so on by prefix.

    Losses that belong to no stream are regularisers, of another size than a loss, and have a chart of their own. So has
    each figure of what the semantic stream holds, with that of the fixed projection in it.
    """
    names = list(dict.fromkeys(name for line in log for name in line if name not in COUNTERS))
    groups: dict[str, list[str]] = {}
    for name in names:
        if not name.startswith(SCORE):
            groups.setdefault(_group(name, streams), []).append(name)
    known = [*TITLES, *groups]
    styles = {stream: number for number, stream in enumerate(streams, start=1)}
    return [
        Chart(name, TITLES.get(name, name), [_styled(logged(log, member), styles) for member in groups[name]])
        for name in sorted(groups, key=known.index)
    ]


def logged(log: Sequence[LogLine], name: str) -> Series:
    """Return one logged value over steps."""
    return Series(name, [(line["step"], _value(line[name])) for line in log if name in line])


def _styled(series: Series, styles: Mapping[str, int]) -> Series:
    """Return a series in the colour of its stream, which is the same in all charts."""
    return replace(series, style=styles.get(series.name.partition("/")[2]))


def _value(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _group(name: str, streams: Mapping[str, Any]) -> str:
    prefix, _, rest = name.partition("/")
    if prefix == "loss" and rest and streams and rest not in streams:
        return "Regularisers"
    if f"{prefix}/" == SEMANTIC_HEALTH:
        return name.removesuffix(FIXED)
    return prefix
