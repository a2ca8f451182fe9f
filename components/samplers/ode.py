"""Fixed-step solvers of dx/dt = v(x, t). Each stream moves along its own time."""

from __future__ import annotations

from collections.abc import Callable

from ..streams import Streams
from ..velocity import Clock, Instants, Progress, Velocity
from .settings import SamplerSettings


def advance(streams: Streams, slope: Streams, now: Instants, then: Instants) -> Streams:
    """Return every stream after a straight step from one time to another."""
    return {name: stream + (then[name] - now[name]) * slope[name] for name, stream in streams.items()}


class Euler:
    """x(t+h) = x + h v(x, t), in equal steps of the clock."""

    def __init__(self, settings: SamplerSettings) -> None:
        self.steps = settings.steps

    def sample(
        self,
        velocity: Velocity,
        noise: Streams,
        clock: Clock,
        fresh_noise: Callable[[], Streams],
        progress: Progress | None = None,
    ) -> Streams:
        """Integrate from clock 0 to clock 1."""
        del fresh_noise
        streams = noise
        for step in range(self.steps):
            now, then = clock(step / self.steps), clock((step + 1) / self.steps)
            streams = advance(streams, self.slope(velocity, streams, now, then, last=step + 1 == self.steps), now, then)
            if progress:
                progress(step + 1, self.steps)
        return streams

    def slope(self, velocity: Velocity, streams: Streams, now: Instants, then: Instants, *, last: bool) -> Streams:
        """Return the slope of a step."""
        del then, last
        return velocity(streams, now)


class Heun(Euler):
    """x(t+h) = x + h/2 (v(x, t) + v(x + h v(x, t), t+h)); the last step is Euler's, as v is not used at t = 1."""

    def slope(self, velocity: Velocity, streams: Streams, now: Instants, then: Instants, *, last: bool) -> Streams:
        """Return the mean of the slopes at both ends of a step."""
        here = velocity(streams, now)
        if last:
            return here
        there = velocity(advance(streams, here, now, then), then)
        return {name: (here[name] + there[name]) / 2 for name in streams}
