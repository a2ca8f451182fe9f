"""What every sampler is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ..predictor import Predictor, Progress
from ..streams import Streams


@runtime_checkable
class Sampler(Protocol):
    """Carries streams from noise to data along the path that it was built for."""

    def sample(
        self,
        predict: Predictor,
        noise: Streams,
        fresh_noise: Callable[[], Streams],
        progress: Progress | None = None,
    ) -> Streams:
        """Return clean streams; `fresh_noise` draws independent noise like `noise`, for stochastic samplers."""
        ...
