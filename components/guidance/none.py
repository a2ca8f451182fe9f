"""No guidance."""

from __future__ import annotations

from torch import Tensor

from ..streams import Streams
from ..velocity import ConditionalVelocity, Instants, Velocity
from .settings import NoGuidanceSettings


class NoGuidance:
    """The conditional velocity itself, one call of the model a step."""

    def __init__(self, settings: NoGuidanceSettings, null_label: int) -> None:
        del settings, null_label

    def __call__(self, model: ConditionalVelocity, labels: Tensor) -> Velocity:
        """Bind the labels."""

        def velocity(streams: Streams, instants: Instants) -> Streams:
            return model(streams, instants, labels)

        return velocity
