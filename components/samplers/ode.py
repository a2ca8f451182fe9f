"""Fixed-step solvers of dx/dt = v(x, t). Each stream moves along its own time."""

from __future__ import annotations

from collections.abc import Callable

from ..streams import Streams
from ..velocity import Clock, Instants, Progress, Velocity
from .settings import EulerSettings, HeunSettings


def _advance(streams: Streams, velocity: Streams, now: Instants, then: Instants) -> Streams:
    return {name: stream + (then[name] - now[name]) * velocity[name] for name, stream in streams.items()}


class Euler:
    """x(t+h) = x + h v(x, t)."""

    def __init__(self, settings: EulerSettings) -> None:
        self.steps = settings.steps

    def sample(
        self,
        velocity: Velocity,
        noise: Streams,
        clock: Clock,
        fresh_noise: Callable[[], Streams],
        progress: Progress | None = None,
    ) -> Streams:
        """Integrate from clock 0 to clock 1 in equal steps."""
        del fresh_noise
        streams = noise
        for step in range(self.steps):
            now, then = clock(step / self.steps), clock((step + 1) / self.steps)
            streams = _advance(streams, velocity(streams, now), now, then)
            if progress:
                progress(step + 1, self.steps)
        return streams


class Heun:
    """x(t+h) = x + h/2 (v(x, t) + v(x + h v(x, t), t+h)); the last step is Euler's, as v is not used at t = 1."""

    def __init__(self, settings: HeunSettings) -> None:
        self.steps = settings.steps

    def sample(
        self,
        velocity: Velocity,
        noise: Streams,
        clock: Clock,
        fresh_noise: Callable[[], Streams],
        progress: Progress | None = None,
    ) -> Streams:
        """Integrate from clock 0 to clock 1 in equal steps."""
        del fresh_noise
        streams = noise
        for step in range(self.steps):
            now, then = clock(step / self.steps), clock((step + 1) / self.steps)
            slope = velocity(streams, now)
            if step + 1 < self.steps:
                ahead = velocity(_advance(streams, slope, now, then), then)
                slope = {name: (slope[name] + ahead[name]) / 2 for name in streams}
            streams = _advance(streams, slope, now, then)
            if progress:
                progress(step + 1, self.steps)
        return streams
