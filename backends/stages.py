"""Where the time of a step goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.profiler import record_function

DATA, ENCODING, FORWARD, BACKWARD = "data", "encoding", "forward", "backward"
GUARD, OPTIMIZER, AVERAGE = "guard", "optimizer", "average"


class Stages:
    """Seconds by stage of a step; traces show the same names.

    Args:
        exact: whether to wait for the device at both ends of a stage. Where a device works beside its process, only
            these seconds are the stage's own; the steps become slower for it.

    Attributes:
        seconds: what was spent in each stage since the beginning, or since it was cleared.
    """

    def __init__(self, device: torch.device, *, exact: bool = False) -> None:
        self.exact = exact and device.type == "cuda"
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count what happens inside to a stage."""
        with record_function(name):
            began = self._now()
            try:
                yield
            finally:
                self.seconds[name] += self._now() - began

    def clear(self) -> None:
        """Begin anew."""
        self.seconds.clear()

    def _now(self) -> float:
        if self.exact:
            torch.cuda.synchronize()
        return time.perf_counter()
