"""What every sampler is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ..streams import Streams
from ..velocity import Clock, Progress, Velocity


@runtime_checkable
class Sampler(Protocol):
    """Carries streams from noise (clock 0) to data (clock 1)."""

    def sample(
        self,
        velocity: Velocity,
        noise: Streams,
        clock: Clock,
        fresh_noise: Callable[[], Streams],
        progress: Progress | None = None,
    ) -> Streams:
        """Return clean streams; `fresh_noise` draws independent noise like `noise`, for stochastic samplers."""
        ...
