"""Calls that are timed in turn, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

SHORTEST = 0.05
"""Seconds that a measurement takes at least: shorter calls are made several times."""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    def scaled(self, factor: float) -> Spread:
        """Return them in another unit."""
        return Spread(factor * self.median, factor * self.low, factor * self.high)


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles of values."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio(these: Sequence[float], those: Sequence[float]) -> Spread:
    """Return how the first compare with the second, round by round."""
    return spread([one / other for one, other in zip(these, those, strict=True)])


class Timer:
    """Times calls on a device.

    Attributes:
        peaks: the most bytes that were allocated during each call; empty where the device does not count them.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.peaks: dict[str, int] = {}

    def in_turn(self, calls: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int) -> dict[str, list[float]]:
        """Return the seconds of each call in every round: A B C A B C ... after a few that do not count."""
        repeats = {name: self._repeats(call, warmup) for name, call in calls.items()}
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                seconds[name].append(self._timed(name, call, repeats[name]))
        return seconds

    def _repeats(self, call: Callable[[], object], warmup: int) -> int:
        taken = SHORTEST
        for _ in range(warmup):
            taken = self._timed("", call, 1)
        return max(1, round(SHORTEST / taken))

    def _timed(self, name: str, call: Callable[[], object], repeats: int) -> float:
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        began = time.perf_counter()
        for _ in range(repeats):
            call()
        if cuda:
            torch.cuda.synchronize(self.device)
        taken = (time.perf_counter() - began) / repeats
        if cuda and name:
            self.peaks[name] = max(self.peaks.get(name, 0), torch.cuda.max_memory_allocated(self.device))
        return taken
