"""Solvers of `dX = (v + D s) dt + sqrt(2 D) dW`, which has the flow's marginals for any D(t) (SiT, arXiv 2401.08740).

On straight lines the score is `s = (t v - x) / (1 - t)`. Noise is added up to `last_step_size` before the end of the
clock, and one step without noise leads to data. Each stream moves in its own time, and one whose time stands still
neither drifts nor gets noise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import pairwise

from ..paths import FlowPath
from ..predictor import Instants, Predictor, Progress
from ..streams import Streams
from .forms import diffusion, score_factor
from .ode import DATA, advance
from .settings import StochasticSettings


class Stochastic(ABC):
    """The walk; subclasses say what a step is.

    Attributes:
        nearest: how near to data, in clock units, noisy steps lead before they reach it. With leads a stream's time can
            come nearer by chance, where SiT's formula would exceed what a step can follow.
    """

    def __init__(self, settings: StochasticSettings, path: FlowPath) -> None:
        self.settings, self.path = settings, path
        self.nearest = 1 / settings.steps if settings.last == "none" else settings.last_step_size

    def sample(
        self,
        predict: Predictor,
        noise: Streams,
        fresh_noise: Callable[[], Streams],
        progress: Progress | None = None,
    ) -> Streams:
        """Integrate from clock 0 to clock 1."""
        streams, total = noise, self.settings.steps
        clocks = [self.path.clock(instant) for instant in self.instants()]
        for done, (now, then) in enumerate(pairwise(clocks), start=1):
            streams = self.step(predict, streams, self._kick(fresh_noise, now, then), now, then)
            if progress:
                progress(done, total)
        if self.settings.last != "none":
            streams = self._finish(predict, streams, clocks[-1], self.path.clock(1.0))
            if progress:
                progress(total, total)
        return streams

    def instants(self) -> list[float]:
        """Return the clock at both ends of every noisy step.

        SiT counts grid points: the last step is one of its `steps`. Without one we take `steps` noisy steps, where the
        published code takes one less.
        """
        noisy, end = self.settings.steps - 1, 1 - self.settings.last_step_size
        if self.settings.last == "none":
            noisy, end = self.settings.steps, 1.0
        return [end * step / noisy for step in range(noisy + 1)]

    @abstractmethod
    def step(self, predict: Predictor, streams: Streams, kick: Streams, now: Instants, then: Instants) -> Streams:
        """Return the streams after a noisy step; `kick` is the noise, for the streams that get any."""

    def drift(self, predict: Predictor, streams: Streams, times: Instants, moves: Mapping[str, float]) -> Streams:
        """Return `v + D s` at these times for every stream that moves; `moves` says how far each one goes."""
        velocities = predict(streams, times)
        form, norm = self.settings.form, self.settings.norm
        factors = {
            name: score_factor(form, norm, times[name], length, min(length, self.nearest))
            for name, length in moves.items()
            if length > 0
        }
        return {
            name: velocities[name] + factor * (times[name] * velocities[name] - streams[name])
            for name, factor in factors.items()
        }

    def _kick(self, fresh_noise: Callable[[], Streams], now: Instants, then: Instants) -> Streams:
        form, norm = self.settings.form, self.settings.norm
        spread = {
            name: math.sqrt(2 * diffusion(form, norm, now[name], length) * length) if length > 0 else 0.0
            for name, length in moved(now, then).items()
        }
        if not any(spread.values()):
            return {}
        fresh = fresh_noise()
        return {name: std * fresh[name] for name, std in spread.items() if std > 0}

    def _finish(self, predict: Predictor, streams: Streams, now: Instants, then: Instants) -> Streams:
        if self.settings.last == "mean":
            return advance(streams, self.drift(predict, streams, now, moved(now, then)), now, then)
        # Tweedie's mean of the data, x / t + (1-t)^2 / t s, is on straight lines x + (1-t) v: the ODE's step as well.
        return advance(streams, predict(streams, now), now, then)


class EulerMaruyama(Stochastic):
    """x(t+h) = x + h (v + D s)(x, t) + sqrt(2 D h) noise."""

    def step(self, predict: Predictor, streams: Streams, kick: Streams, now: Instants, then: Instants) -> Streams:
        """Return drifted streams with noise."""
        drift = self.drift(predict, streams, now, moved(now, then))
        return kicked(advance(streams, drift, now, then), kick)


class StochasticHeun(Stochastic):
    """Noise first, y = x + sqrt(2 D h) noise, then Heun's step of the drift from y (EDM's order, arXiv 2206.00364).

    A stream that the step brings to t = 1 takes its first slope: neither v nor the score is used there.
    """

    def step(self, predict: Predictor, streams: Streams, kick: Streams, now: Instants, then: Instants) -> Streams:
        """Return streams with noise that drifted by the mean of the slopes at both ends."""
        start, moves = kicked(streams, kick), moved(now, then)
        slope = self.drift(predict, start, now, moves)
        under_way = {name: moves[name] for name in slope if then[name] < DATA}
        if under_way:
            there = self.drift(predict, advance(start, slope, now, then), then, under_way)
            slope |= {name: (slope[name] + there[name]) / 2 for name in under_way}
        return advance(start, slope, now, then)


def moved(now: Instants, then: Instants) -> dict[str, float]:
    """Return how far each stream's time moves."""
    return {name: then[name] - now[name] for name in now}


def kicked(streams: Streams, kick: Streams) -> Streams:
    """Return streams with their noise, where they get any."""
    return {name: stream + kick[name] if name in kick else stream for name, stream in streams.items()}
