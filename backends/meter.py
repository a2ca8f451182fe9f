"""What is logged, summed on the device between two lines of the log."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import torch
from torch import Tensor

_COUNT = "steps"


class Meter:
    """Sums of logged values since the last line: no value is read back in between."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.resume()

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add what one step gave."""
        for name, value in values.items():
            detached = value.detach().float()
            self.sums[name] = self.sums[name] + detached if name in self.sums else detached
        self.count += 1
        self.timed += 1

    def means(self) -> dict[str, float]:
        """Return the mean of every value, in the order of their names."""
        return {name: float(self.sums[name]) / self.count for name in sorted(self.sums)}

    def resume(self) -> None:
        """Begin to take the time."""
        self.timed, self.started = 0, time.monotonic()

    def speed(self) -> float:
        """Return steps a second, of those that this process has done itself; NaN if there are none."""
        return self.timed / self.seconds() if self.timed else math.nan

    def seconds(self) -> float:
        """Return the time that was spent on steps."""
        return max(time.monotonic() - self.started, 1e-9)

    def pause(self, seconds: float) -> None:
        """Leave out time that was not spent on steps."""
        self.started += seconds

    def clear(self) -> None:
        """Begin anew."""
        self.sums, self.count = {}, 0
        self.resume()

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that must be kept to go on exactly."""
        return {**{f"sum/{name}": total for name, total in self.sums.items()}, _COUNT: torch.tensor(self.count)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what was kept."""
        self.clear()
        self.sums = {name.removeprefix("sum/"): value for name, value in tensors.items() if name != _COUNT}
        self.count = int(tensors[_COUNT])
