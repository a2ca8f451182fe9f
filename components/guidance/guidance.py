"""What every guidance is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from ..predictor import ConditionalPredictor, Predictor


@runtime_checkable
class Guidance(Protocol):
    """Turns a conditional prediction into the one that is sampled."""

    def __call__(self, model: ConditionalPredictor, labels: Tensor) -> Predictor:
        """Return the guided prediction for labels `(B,)`."""
        ...
