"""What came out of a benchmark: for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..shown import size
from .rounds import Spread


@dataclass(frozen=True)
class Measured:
    """One thing that was timed.

    Attributes:
        blocks: how the network's blocks ran; empty where none did.
        seconds: of a call.
        all_seconds: of every round.
        images_per_second: 0 if that means nothing.
        flops_per_second: what was achieved of the arithmetic that has to be done; 0 if that is not known.
        ceiling_share: the same as a share of what matrix products achieved in the same rounds.
        memory_peak: bytes, with all that is timed beside it; of a GPU during these calls, or of the process on a CPU.
        stages: shares of a call by stage.
    """

    name: str
    blocks: str
    seconds: Spread
    all_seconds: Sequence[float]
    images_per_second: float
    flops_per_second: float
    ceiling_share: float
    memory_peak: int
    stages: dict[str, float]


@dataclass(frozen=True)
class Report:
    """A whole benchmark.

    Attributes:
        ceiling: floating-point operations a second of a large matrix product, measured in the same rounds.
        ratio: how the first compares with the second, round by round; None for one alone.
        conditions: everything else that the numbers depend on.
    """

    what: str
    measured: Sequence[Measured]
    ceiling: float
    ratio: Spread | None
    rounds: int
    conditions: dict[str, Any]

    def values(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield what a person reads."""
        for name, value in self.conditions.items():
            yield f"{name:<14} {value}"
        yield f"{'ceiling':<14} {_rate(self.ceiling)} (a large matrix product, in the same rounds)"
        for each in self.measured:
            yield ""
            yield from _lines_of(each)
        if self.ratio is not None:
            first, second = self.measured[:2]
            yield ""
            yield (
                f"{first.name} takes {self.ratio.median:.3f}x the time of {second.name} "
                f"(quartiles {self.ratio.low:.3f} and {self.ratio.high:.3f}; {self.rounds} rounds in turn)"
            )


def _lines_of(each: Measured) -> Iterator[str]:
    yield each.name
    if each.blocks:
        yield f"  {'blocks':<12} {each.blocks}"
    low, high = each.seconds.low, each.seconds.high
    yield f"  {'time':<12} {_time(each.seconds.median)} (quartiles {_time(low)} and {_time(high)})"
    if each.images_per_second:
        yield f"  {'images':<12} {each.images_per_second:,.4g} a second"
    if each.flops_per_second:
        yield f"  {'arithmetic':<12} {_rate(each.flops_per_second)}, {100 * each.ceiling_share:.0f} % of the ceiling"
    yield f"  {'memory peak':<12} {size(each.memory_peak)}, with all that is timed here"
    for stage, share in each.stages.items():
        yield f"  {stage:<12} {100 * share:.1f} %"


def _time(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds >= 1 else f"{1e3 * seconds:.4g} ms"


def _rate(flops: float) -> str:
    return f"{flops / 1e12:,.1f} TFLOP/s" if flops >= 1e12 else f"{flops / 1e9:,.1f} GFLOP/s"
