"""Dormand-Prince's pair of orders 5 and 4, in steps that the solver chooses: torchdiffeq's, and SiT's default.

The step is chosen for the whole batch: the error that counts is the largest, over streams, of its root mean square. So
an image depends, within the tolerance, on what is drawn beside it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..paths import FlowPath
from ..predictor import Predictor, Progress
from ..streams import Streams
from .settings import Dopri5Settings


class Dopri5:
    """Integrates over the common clock: a stream's slope is its velocity times the rate of its own time."""

    def __init__(self, settings: Dopri5Settings, path: FlowPath) -> None:
        self.settings, self.path = settings, path
        self.pace = 1 + max(path.leads.values())
        self.moving = {name: (1 - (1 + lead) / self.pace, 1 - lead / self.pace) for name, lead in path.leads.items()}

    def sample(
        self,
        predict: Predictor,
        noise: Streams,
        fresh_noise: Callable[[], Streams],
        progress: Progress | None = None,
    ) -> Streams:
        """Integrate from clock 0 to clock 1; the number of steps is not known, so that progress is told at the end."""
        from torchdiffeq import odeint  # noqa: PLC0415 - only this sampler needs it

        del fresh_noise

        def slope(clock: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            # The guess of a first step may look beyond the end.
            instant = min(float(clock), 1.0)
            velocities = predict(dict(zip(noise, state, strict=True)), self.path.clock(instant))
            return tuple(self.rate(name, instant) * velocities[name] for name in noise)

        device = next(iter(noise.values())).device
        ends = odeint(
            slope,
            tuple(noise.values()),
            torch.tensor([0.0, 1.0], dtype=torch.float64, device=device),
            rtol=self.settings.rtol,
            atol=self.settings.atol,
            method="dopri5",
            options=self._stops(device),
        )
        if progress:
            progress(1, 1)
        return {name: states[-1] for name, states in zip(noise, ends, strict=True)}

    def rate(self, name: str, instant: float) -> float:
        """Return how fast a stream's time goes at an instant of the clock."""
        start, end = self.moving[name]
        return self.pace if start <= instant <= end else 0.0

    def _stops(self, device: torch.device) -> dict[str, Tensor]:
        # Left alone, the solver steps over the end and interpolates: SiT asks its model for times beyond data.
        kinks = sorted({instant for ends in self.moving.values() for instant in ends if 0 < instant < 1})
        stops = {"step_t": [1.0], "jump_t": kinks}
        return {key: torch.tensor(at, dtype=torch.float64, device=device) for key, at in stops.items() if at}
