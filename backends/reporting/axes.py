"""The axes of a chart: from values to places, linear or logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .numbers import linear_ticks, log_ticks, tick_label, tick_step

WIDE = 8
"""Positive values whose largest is so many times the smallest are drawn on a logarithmic axis (our choice): the first
line of a log alone presses the others flat on a linear one."""


@dataclass(frozen=True)
class Axis:
    """A range of values laid over a range of places.

    Attributes:
        low, high: values at the ends.
        start, stop: places of the ends.
        ticks: values with their labels.
    """

    low: float
    high: float
    start: float
    stop: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies."""
        low, high, value = (
            (math.log(v) for v in (self.low, self.high, value))
            if self.log
            else (
                self.low,
                self.high,
                value,
            )
        )
        return self.start + (value - low) / (high - low) * (self.stop - self.start)


def spans_widely(values: Sequence[float]) -> bool:
    """Return whether values are positive and so far apart that a linear axis shows the largest alone."""
    return bool(values) and min(values) > 0 and max(values) > WIDE * min(values)


def step_axis(values: Sequence[float], start: float, stop: float, most: int) -> Axis:
    """Return an axis of steps: from 0, unless the values begin late, to the last one; ticks are whole numbers."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = 0.0 if 0 <= low <= 0.5 * high else low
    if low == high:
        low, high = low - 1, high + 1
    step = max(1.0, tick_step(high - low, most))
    return Axis(low, high, start, stop, _labelled(linear_ticks(low, high, step), step))


def value_axis(values: Sequence[float], start: float, stop: float, most: int) -> Axis:
    """Return an axis of values that ends at round numbers; logarithmic if they span widely."""
    if spans_widely(values):
        return _log_axis(min(values), max(values), start, stop, most)
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = 0.5 * abs(low) or 0.5
        low, high = low - room, high + room
    step = tick_step(high - low, most)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Axis(low, high, start, stop, _labelled(linear_ticks(low, high, step), step))


def point_axis(ticks: Sequence[tuple[float, str]], start: float, stop: float) -> Axis:
    """Return an axis with ticks at given values alone, and room beside the outermost."""
    values = [value for value, _ in ticks]
    room = 0.06 * (max(values) - min(values)) or 1.0
    return Axis(min(values) - room, max(values) + room, start, stop, tuple(ticks))


def _log_axis(low: float, high: float, start: float, stop: float, most: int) -> Axis:
    room = (high / low) ** 0.04
    low, high = low / room, high * room
    ticks = log_ticks(low, high, most)
    return Axis(low, high, start, stop, tuple((tick, tick_label(tick, tick)) for tick in ticks), log=True)


def _labelled(ticks: Sequence[float], step: float) -> tuple[tuple[float, str], ...]:
    return tuple((tick, tick_label(tick, step)) for tick in ticks)
