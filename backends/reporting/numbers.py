"""Numbers as a person reads them, and the ticks of an axis."""

from __future__ import annotations

import math
from collections.abc import Iterator

MISSING = "\u2013"


def number(value: float | None) -> str:
    """Return a number with about four significant digits and thousands separators; None becomes a dash."""
    if value is None or not math.isfinite(value):
        return MISSING
    size = abs(value)
    if value == int(value) and size < 1e15:
        return f"{int(value):,}"
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 1:
        return f"{value:.{3 - int(math.log10(size))}f}"
    short, text = f"{value:g}", f"{value:#.3g}"
    return _without_padding(short if len(short) < len(text) and float(f"{value:.1g}") == value else text)


def spread_beside(spread: float, value: float | None) -> str:
    """Return the spread of a value with as many decimals as the value is shown with, if they say anything of it."""
    _, _, decimals = number(value).partition(".")
    text = f"{spread:,.{len(decimals)}f}"
    return text if decimals.isdigit() and float(text.replace(",", "")) else number(spread)


def _without_padding(text: str) -> str:
    """Return `2e-06` as `2e-6`."""
    digits, _, exponent = text.partition("e")
    return f"{digits}e{int(exponent)}" if exponent else digits


def tick_label(value: float, step: float) -> str:
    """Return a tick's value with as many decimals as ticks so far apart need."""
    if value and (abs(value) < 1e-4 or step < 1e-4):
        return _without_padding(f"{value:.3g}")
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def tick_step(span: float, most: int) -> float:
    """Return the smallest of 1, 2, 5, 10, ... that cuts a span into less than `most` pieces."""
    least = span / max(1, most - 1)
    magnitude = 10.0 ** math.floor(math.log10(least))
    return next(factor * magnitude for factor in (1, 2, 5, 10, 20) if factor * magnitude >= least * (1 - 1e-9))


def linear_ticks(low: float, high: float, step: float) -> list[float]:
    """Return the multiples of a step that lie between two bounds."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers between two positive bounds, as many as fit: 1 2 5, 1 3, every power, every other one."""
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        found = list(_round_numbers(low, high, mantissas))
        if len(found) <= most:
            break
    return found[:: math.ceil(len(found) / most)] if found else [low, high]


def _round_numbers(low: float, high: float, mantissas: tuple[int, ...]) -> Iterator[float]:
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for mantissa in mantissas:
            value = mantissa * 10.0**power
            if low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
                yield value
