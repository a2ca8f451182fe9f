"""What every metric is."""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable

from torch import Tensor


@runtime_checkable
class Statistics(Protocol):
    """Additive state: statistics of two halves add up to the statistics of the whole."""

    def update(self, features: Tensor) -> None:
        """Add features `(B, D)`."""
        ...

    def __add__(self, other: Self) -> Self:
        """Return the statistics of both sets together."""
        ...


@runtime_checkable
class Metric(Protocol):
    """Compares statistics of generated features with those of a reference."""

    lower_is_better: bool

    def statistics(self) -> Statistics:
        """Return empty statistics."""
        ...

    def compute(self, generated: Statistics, reference: Statistics) -> float:
        """Return the score.

        Raises:
            ValueError: too few samples, or a value that is not finite.
        """
        ...
