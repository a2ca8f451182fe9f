"""What every metric is."""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable

from torch import Tensor

from .settings import MetricSettings


@runtime_checkable
class Statistics(Protocol):
    """Additive state: statistics of two halves add up to the statistics of the whole."""

    @property
    def count(self) -> int:
        """Number of images."""
        ...

    def update(self, values: Tensor) -> None:
        """Add what an extractor says of images, `(B, D)`: features or logits, whichever the metric reads."""
        ...

    def __add__(self, other: Self) -> Self:
        """Return the statistics of both sets together."""
        ...


@runtime_checkable
class Metric(Protocol):
    """Judges statistics of generated images, most by those of a reference.

    Attributes:
        settings: they say what is read, how many images are needed, and which way each score is better.
    """

    settings: MetricSettings

    def statistics(self) -> Statistics:
        """Return empty statistics."""
        ...

    def compute(self, generated: Statistics, reference: Statistics | None) -> dict[str, float]:
        """Return scores by name, all of them finite; a spread, if there is one, beside the score that it is of.

        Raises:
            ValueError: too few images, no reference where one is needed, or features that are not finite.
        """
        ...
