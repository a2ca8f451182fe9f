"""Settings of the guidance parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from ..registry import register
from ..settings import Settings
from ..streams import IMAGE

Instant = Annotated[float, Field(ge=0, le=1)]


class Contrast(Settings):
    """How far to go from a prediction that knows less, where and when."""

    scale: float = Field(2.0, ge=0, description="1 is no guidance, 0 the prediction that knows less")
    streams: list[str] = Field(default_factory=lambda: [IMAGE], min_length=1, description="ReDi: the image only")
    interval: list[Instant] = Field(
        default_factory=lambda: [0.0, 1.0],
        min_length=2,
        max_length=2,
        description="image times between which guidance is on (JiT: 0.1 to 1)",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Contrast:
        if self.interval[0] > self.interval[1]:
            raise ValueError(f"interval starts at {self.interval[0]}, after its end {self.interval[1]}")
        return self


class GuidanceSettings(Settings):
    """Base of every guidance's settings."""

    def label_contrast(self) -> Contrast | None:
        """Return how predictions with and without a label are compared, if they are."""
        return None

    def semantic_contrast(self) -> Contrast | None:
        """Return how predictions with and without semantics are compared, if they are."""
        return None

    def streams_named(self) -> Iterator[str]:
        """Yield the streams that the settings mention."""
        for contrast in (self.label_contrast(), self.semantic_contrast()):
            if contrast is not None:
                yield from contrast.streams


@register("guidance", "none", builds=".none:NoGuidance")
class NoGuidanceSettings(GuidanceSettings):
    """The conditional prediction as it is."""


@register("guidance", "cfg", builds=".contrast:ClassifierFreeGuidance")
class CFGSettings(GuidanceSettings, Contrast):
    """Classifier-free guidance (arXiv 2207.12598) on chosen streams, in an interval of the image's time."""

    def label_contrast(self) -> Contrast:
        """Return these settings."""
        return self


@register("guidance", "representation", builds=".contrast:RepresentationGuidance")
class RepresentationSettings(GuidanceSettings, Contrast):
    """Representation guidance (ReDi, arXiv 2504.16064): away from what the model says without the semantic stream."""

    scale: float = Field(1.5, ge=0, description="1 is no guidance; ReDi: 1.5 for size B, 1.1 for XL")

    def semantic_contrast(self) -> Contrast:
        """Return these settings."""
        return self


def _semantic_default() -> Contrast:
    return Contrast(scale=1.5)


@register("guidance", "joint", builds=".contrast:JointGuidance")
class JointGuidanceSettings(GuidanceSettings):
    """Classifier-free and representation guidance together, each with its own scale, streams and interval."""

    label: Contrast = Field(default_factory=Contrast, description="against the prediction without a label")
    semantics: Contrast = Field(
        default_factory=_semantic_default, description="against the prediction without semantics"
    )

    def label_contrast(self) -> Contrast:
        """Return the first."""
        return self.label

    def semantic_contrast(self) -> Contrast:
        """Return the second."""
        return self.semantics
