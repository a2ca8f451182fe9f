"""Settings of the guidance parts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from ..registry import register
from ..settings import Settings
from ..streams import IMAGE

Instant = Annotated[float, Field(ge=0, le=1)]


class GuidanceSettings(Settings):
    """Base of every guidance's settings."""

    def streams_named(self) -> tuple[str, ...]:
        """Return the streams that the settings mention."""
        return ()

    def needs_labels(self) -> bool:
        """Return whether the guidance compares conditional with unconditional predictions."""
        return False


@register("guidance", "none", builds=".none:NoGuidance")
class NoGuidanceSettings(GuidanceSettings):
    """The conditional prediction as it is."""


@register("guidance", "cfg", builds=".cfg:ClassifierFreeGuidance")
class CFGSettings(GuidanceSettings):
    """Classifier-free guidance (arXiv 2207.12598) on chosen streams, in an interval of the image's time."""

    scale: float = Field(2.0, ge=0, description="1 is no guidance, 0 the unconditional prediction")
    streams: list[str] = Field(default_factory=lambda: [IMAGE], min_length=1, description="ReDi: the image only")
    interval: list[Instant] = Field(
        default_factory=lambda: [0.0, 1.0],
        min_length=2,
        max_length=2,
        description="image times between which guidance is on (JiT: 0.1 to 1)",
    )

    @model_validator(mode="after")
    def _ordered(self) -> CFGSettings:
        if self.interval[0] > self.interval[1]:
            raise ValueError(f"interval starts at {self.interval[0]}, after its end {self.interval[1]}")
        return self

    def streams_named(self) -> tuple[str, ...]:
        """Return the guided streams."""
        return tuple(self.streams)

    def needs_labels(self) -> bool:
        """Return whether the scale makes a difference."""
        return self.scale != 1
