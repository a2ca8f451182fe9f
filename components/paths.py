"""The ways from noise to data that a process lays out and a sampler walks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .predictor import Instants
from .streams import Times


@dataclass(frozen=True)
class FlowPath:
    """Straight lines `x_t = t x + (1-t) eps` in continuous time, t = 0 noise, t = 1 data.

    A stream with lead L reaches data early by L and one without starts late, over a path of 1 + max lead (SFD, arXiv
    2512.04926). Without leads every stream's time is the common clock itself.

    Attributes:
        leads: how far each stream's time runs ahead of the common clock.
    """

    leads: Mapping[str, float]

    def times(self, instant: Tensor) -> Times:
        """Return each stream's time at instants of the common clock in [0, 1]."""
        longest = max(self.leads.values())
        now = instant * (1 + longest)
        return {
            name: instant if longest == 0 else (now - (longest - lead)).clamp(0, 1) for name, lead in self.leads.items()
        }

    def clock(self, instant: float) -> Instants:
        """Return the same for one instant."""
        return {name: float(time) for name, time in self.times(torch.tensor(instant, dtype=torch.float64)).items()}


@dataclass(frozen=True)
class DiffusionPath:
    """Discrete steps of growing noise, `x_s = sqrt(abar_s) x + sqrt(1 - abar_s) eps`, s = 0 .. N-1 (DDPM).

    Seen as a time in [0, 1] with 1 = data, step s is `t = 1 - (s + 1) / N`: the last step is t = 0, and data, which no
    step is, is t = 1.

    Attributes:
        names: the streams.
        betas: variances added by each step `(N,)`, float64.
    """

    names: tuple[str, ...]
    betas: Tensor

    def __len__(self) -> int:
        return len(self.betas)

    @cached_property
    def alphas_bar(self) -> Tensor:
        """Cumulative products of `1 - beta`, `(N,)` float64."""
        return (1 - self.betas).cumprod(0)

    def times(self, instant: Tensor) -> Times:
        """Return each stream's time at instants of the common clock, which all share."""
        return dict.fromkeys(self.names, instant)

    def time(self, step: Tensor) -> Tensor:
        """Return times in [0, 1) of steps."""
        return 1 - (step + 1) / len(self)

    def step(self, time: Tensor) -> Tensor:
        """Return the steps (int64) of times."""
        return ((1 - time) * len(self)).round().long() - 1

    def clock(self, step: int) -> Instants:
        """Return every stream's time at a step."""
        return dict.fromkeys(self.names, 1 - (step + 1) / len(self))


Path = FlowPath | DiffusionPath
