"""Fixed-step solvers of dx/dt = v(x, t). Each stream moves along its own time."""

from __future__ import annotations

from collections.abc import Callable

from ..paths import FlowPath
from ..predictor import Instants, Predictor, Progress
from ..streams import Streams
from .settings import StepSettings

# With leads a path may end a rounding error before 1.
DATA = 1 - 1e-9


def advance(streams: Streams, slope: Streams, now: Instants, then: Instants) -> Streams:
    """Return every stream after a straight step from one time to another; one that stands still needs no slope."""
    return {
        name: stream if then[name] == now[name] else stream + (then[name] - now[name]) * slope[name]
        for name, stream in streams.items()
    }


class Euler:
    """x(t+h) = x + h v(x, t), in equal steps of the clock."""

    def __init__(self, settings: StepSettings, path: FlowPath) -> None:
        self.steps, self.path = settings.steps, path

    def sample(
        self,
        predict: Predictor,
        noise: Streams,
        fresh_noise: Callable[[], Streams],
        progress: Progress | None = None,
    ) -> Streams:
        """Integrate from clock 0 to clock 1."""
        del fresh_noise
        streams = noise
        for step in range(self.steps):
            now, then = self.path.clock(step / self.steps), self.path.clock((step + 1) / self.steps)
            streams = advance(streams, self.slope(predict, streams, now, then), now, then)
            if progress:
                progress(step + 1, self.steps)
        return streams

    def slope(self, predict: Predictor, streams: Streams, now: Instants, then: Instants) -> Streams:
        """Return the slope of a step."""
        del then
        return predict(streams, now)


class Heun(Euler):
    """x(t+h) = x + h/2 (v(x, t) + v(x + h v(x, t), t+h)).

    A stream's last step is Euler's, as in JiT: v is not used at t = 1.
    """

    def slope(self, predict: Predictor, streams: Streams, now: Instants, then: Instants) -> Streams:
        """Return the mean of the slopes at both ends of a step."""
        here = predict(streams, now)
        under_way = [name for name in streams if then[name] < DATA]
        if not under_way:
            return here
        there = predict(advance(streams, here, now, then), then)
        return here | {name: (here[name] + there[name]) / 2 for name in under_way}
