"""A trace of a few steps: what ran when, on processor and device, by stage and operation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from .shown import relative

PROFILE = "profile"
SKIPPED, WARMED, TRACED = 5, 2, 5
"""Steps before the profiler, steps in which it warms up, and steps in the trace (our choice)."""


class StepProfiler:
    """Traces a few steps of a run, after the first ones; a context manager around them.

    Args:
        folder: where the trace goes.
        first, last: steps that the run is at and ends with.
        written: is told of the file.
    """

    def __init__(self, folder: Path, first: int, last: int, written: Callable[[Path], None]) -> None:
        traced = min(TRACED, last - first)
        before = last - first - traced
        warmed = min(WARMED, before)
        skipped = min(SKIPPED, before - warmed)
        begin = first + skipped + warmed + 1
        self.path = folder / f"steps-{begin:08d}-{begin + traced - 1:08d}.json.gz"
        self.written = written
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self.profiler = profile(
            activities=activities,
            schedule=schedule(wait=skipped, warmup=warmed, active=traced, repeat=1),
            on_trace_ready=self._write,
            record_shapes=True,
        )

    def __enter__(self) -> StepProfiler:
        self.profiler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del kind, error, traceback
        self.profiler.stop()

    def step(self) -> None:
        """Say that a step is done."""
        self.profiler.step()

    def _write(self, profiler: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self.path))
        self.written(self.path)


def step_profiler(run: Path, steps: range, say: Callable[[str], None]) -> StepProfiler | None:
    """Return a profiler of a run's steps that are to come, None if there are none.

    Args:
        run: the run folder.
        say: is told of the trace.
    """
    how = "open it in ui.perfetto.dev or chrome://tracing"

    def written(path: Path) -> None:
        say(f"{relative(path)}: {how}")

    return StepProfiler(run / PROFILE, steps.start, steps.stop, written) if steps else None
