"""Settings of the guidance parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ..registry import register
from ..settings import Settings
from ..streams import IMAGE

Instant = Annotated[float, Field(ge=0, le=1)]
GuidedStreams = list[str] | Literal["all"]


class Contrast(Settings):
    """How far to go from a prediction that knows less, where and when."""

    part_specific: ClassVar[frozenset[str]] = frozenset({"scale", "streams", "channels"})

    scale: float = Field(2.0, ge=0, description="1 is no guidance, 0 the prediction that knows less")
    streams: GuidedStreams = Field("all", description="guided streams by name, or all of them")
    channels: int | None = Field(
        None, ge=1, description="guide only so many leading channels of the image stream (DiT, SiT: 3 of 4); empty: all"
    )
    interval: list[Instant] = Field(
        default_factory=lambda: [0.0, 1.0],
        min_length=2,
        max_length=2,
        description="image times between which guidance is on; a bound is inside only if it is 0 or 1 (JiT: 0.1 to 1)",
    )

    @field_validator("streams", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        names = [value] if isinstance(value, str) and value != "all" else value
        if names != "all" and not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
            raise ValueError("needs names of streams in a list, or all")
        return names

    @model_validator(mode="after")
    def _ordered(self) -> Contrast:
        if self.interval[0] > self.interval[1]:
            raise ValueError(f"interval starts at {self.interval[0]}, after its end {self.interval[1]}")
        return self

    def guides(self, stream: str) -> bool:
        """Return whether a stream is guided."""
        return self.streams == "all" or stream in self.streams

    def misfits(self, channels: Mapping[str, int]) -> Iterator[tuple[str, str]]:
        """Yield `(key, message)` for what does not fit the model's streams, given with their channels."""
        for name in () if self.streams == "all" else self.streams:
            if name not in channels:
                yield "streams", f"there is no stream '{name}' (only {', '.join(sorted(channels))})"
        if self.channels is None:
            return
        if not self.guides(IMAGE):
            yield "channels", f"counts channels of the stream '{IMAGE}', which is not among the guided streams"
        elif self.channels > channels[IMAGE]:
            yield "channels", f"{self.channels} channels of a stream '{IMAGE}' that has {channels[IMAGE]}"


class LabelContrast(Contrast):
    """Against the prediction without a label: of the image alone unless other streams are named, as in ReDi."""

    streams: GuidedStreams = Field(
        default_factory=lambda: [IMAGE], description="guided streams by name, or all of them (ReDi: the image only)"
    )


class SemanticContrast(Contrast):
    """Against the prediction without semantics: of all streams, as in ReDi's released code."""

    scale: float = Field(1.5, ge=0, description="1 is no guidance; ReDi: 1.5 for size B, 1.1 for XL")
    streams: GuidedStreams = Field("all", description="guided streams by name, or all of them (ReDi: all)")


class GuidanceSettings(Settings):
    """Base of every guidance's settings."""

    def label_contrast(self) -> Contrast | None:
        """Return how predictions with and without a label are compared, if they are."""
        return None

    def semantic_contrast(self) -> Contrast | None:
        """Return how predictions with and without semantics are compared, if they are."""
        return None

    def problems(self, channels: Mapping[str, int]) -> Iterator[tuple[str, str]]:
        """Yield `(key, message)` for what does not fit the model's streams, given with their channels."""
        for contrast in (self.label_contrast(), self.semantic_contrast()):
            if contrast is not None:
                yield from contrast.misfits(channels)


@register("guidance", "none", builds=".none:NoGuidance")
class NoGuidanceSettings(GuidanceSettings):
    """The conditional prediction as it is."""


@register("guidance", "cfg", builds=".contrast:ClassifierFreeGuidance")
class CFGSettings(GuidanceSettings, LabelContrast):
    """Classifier-free guidance (arXiv 2207.12598) on chosen streams, in an interval of the image's time."""

    def label_contrast(self) -> Contrast:
        """Return these settings."""
        return self


@register("guidance", "representation", builds=".contrast:RepresentationGuidance")
class RepresentationSettings(GuidanceSettings, SemanticContrast):
    """Representation guidance (ReDi, arXiv 2504.16064): away from what the model says without the semantic stream."""

    def semantic_contrast(self) -> Contrast:
        """Return these settings."""
        return self


@register("guidance", "joint", builds=".contrast:JointGuidance")
class JointGuidanceSettings(GuidanceSettings):
    """Classifier-free and representation guidance together, each with its own scale, streams and interval."""

    label: LabelContrast = Field(default_factory=LabelContrast, description="against the prediction without a label")
    semantics: SemanticContrast = Field(
        default_factory=SemanticContrast, description="against the prediction without semantics"
    )

    def label_contrast(self) -> Contrast:
        """Return the first."""
        return self.label

    def semantic_contrast(self) -> Contrast:
        """Return the second."""
        return self.semantics

    def problems(self, channels: Mapping[str, int]) -> Iterator[tuple[str, str]]:
        """Yield the same, under the key of the contrast."""
        for key, contrast in (("label", self.label), ("semantics", self.semantics)):
            yield from ((f"{key}.{inner}", message) for inner, message in contrast.misfits(channels))
