"""What every guidance is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from ..velocity import ConditionalVelocity, Velocity


@runtime_checkable
class Guidance(Protocol):
    """Turns a conditional velocity into the one that is sampled."""

    def __call__(self, model: ConditionalVelocity, labels: Tensor) -> Velocity:
        """Return the guided velocity for labels `(B,)`."""
        ...
