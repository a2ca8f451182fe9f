"""One benchmark: subjects of one or two recipes, timed in turn with a matrix product."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from typing import Any

import torch

from ..hardware import device_name, environment
from ..shown import size
from .ceiling import Ceiling
from .results import Measured, Report
from .rounds import Timer, ratio, spread
from .subjects import Subject

STAGED_CALLS = 3


def run_bench(
    what: str, subjects: Sequence[Subject], device: torch.device, precision: str, *, rounds: int, warmup: int
) -> Report:
    """Time subjects in turn, and say what share of the machine's ceiling they reach.

    Args:
        rounds: how often each is timed.
        warmup: calls of each that do not count.
    """
    ceiling, timer = Ceiling(device, precision), Timer(device)
    calls = {subject.name: subject.call for subject in subjects}
    seconds = timer.in_turn({**calls, ceiling.name: ceiling.call()}, rounds=rounds, warmup=warmup)
    highest = ceiling.flops / spread(seconds[ceiling.name]).median
    measured = [_measured(each, seconds[each.name], highest, timer) for each in subjects]
    pair = [seconds[each.name] for each in subjects[:2]]
    return Report(
        what=what,
        measured=measured,
        ceiling=highest,
        ratio=ratio(*pair) if len(subjects) == 2 else None,
        rounds=rounds,
        conditions=_conditions(device, precision),
    )


def _measured(subject: Subject, seconds: Sequence[float], ceiling: float, timer: Timer) -> Measured:
    typical = spread(seconds)
    rate = subject.flops / typical.median
    stages = subject.stages(STAGED_CALLS)
    staged = sum(stages.values())
    return Measured(
        name=subject.name,
        blocks=subject.blocks,
        seconds=typical,
        all_seconds=seconds,
        images_per_second=subject.images / typical.median,
        flops_per_second=rate,
        ceiling_share=rate / ceiling,
        memory_peak=timer.peaks.get(subject.name) or _process_peak(),
        stages={stage: taken / staged for stage, taken in stages.items()},
    )


def _process_peak() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else 1024 * usage


def _conditions(device: torch.device, precision: str) -> dict[str, Any]:
    there = environment()
    versions = ", ".join(f"{name} {there['versions'][name]}" for name in ("torch", "xformers", "latsem"))
    memory = f", {size(torch.cuda.get_device_properties(device).total_memory)}" if device.type == "cuda" else ""
    return {
        "device": f"{device_name(device)}{memory}",
        "processor": there["processor"],
        "precision": precision,
        "versions": f"python {there['python']}, {versions}",
        "revision": there["revision"] or "none",
    }
