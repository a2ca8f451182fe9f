"""No guidance."""

from __future__ import annotations

from torch import Tensor

from ..predictor import ConditionalPredictor, Instants, Predictor
from ..streams import Streams
from .settings import NoGuidanceSettings


class NoGuidance:
    """The conditional prediction itself, one call of the model a step."""

    def __init__(self, settings: NoGuidanceSettings, null_label: int) -> None:
        del settings, null_label

    def __call__(self, model: ConditionalPredictor, labels: Tensor) -> Predictor:
        """Bind the labels."""

        def predict(streams: Streams, instants: Instants) -> Streams:
            return model(streams, instants, labels)

        return predict
