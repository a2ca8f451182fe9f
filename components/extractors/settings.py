"""Settings of the scoring networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import Field, field_validator

from ..registry import PartField, register, register_family
from ..settings import Settings
from ..user_cache import expanded


class ExtractorSettings(Settings):
    """Base of every scoring network's settings: what it gives is known before it is built."""

    def width(self) -> int:
        """Return the number of features of an image."""
        raise NotImplementedError

    def logits(self) -> int:
        """Return the number of classes that it knows, 0 if it gives no logits."""
        return 0

    def resize(self) -> str:
        """Return how images are brought to its size, in a few words: scores depend on it."""
        raise NotImplementedError

    def untrained(self) -> Self:
        """Return the same architecture, built without fetching weights."""
        return self

    def identity(self) -> dict[str, Any]:
        """Return everything that decides its features, besides the weights themselves, as JSON."""
        return self.model_dump(mode="json")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield `(key, message)` for everything outside the recipe that is not as it should be."""
        return iter(())


@register("extractor", "shapes_scorer", builds=".scorer:ShapesScorer")
class ShapesScorerSettings(ExtractorSettings):
    """Small convolutional network trained on noisy `shapes`, apart from every encoder (weights shipped)."""

    def width(self) -> int:
        """64 features."""
        return 64

    def resize(self) -> str:
        """The size of `shapes`."""
        return "bicubic, antialiased, to 32"


@register("extractor", "inception", builds=".inception:Inception")
class InceptionSettings(ExtractorSettings):
    """Inception v3 of 2015 as torch-fidelity has it: the network of FID, KID and Inception score as published."""

    part_specific: ClassVar[frozenset[str]] = frozenset({"weights"})

    pretrained: bool = Field(True, description="torch-fidelity's weights, fetched from GitHub; off: random ones")
    weights: Path | None = Field(None, description="a local copy of that file (.pth), instead of fetching it")

    def width(self) -> int:
        """The last pooled layer, `2048`."""
        return 2048

    def logits(self) -> int:
        """The classes of the TensorFlow network, without their bias (`logits_unbiased`)."""
        return 1008

    def resize(self) -> str:
        """As in the network's own graph."""
        return "bilinear as in TensorFlow 1, to 299"

    def untrained(self) -> Self:
        """Return the same network with random weights."""
        return self.model_copy(update={"pretrained": False, "weights": None})

    def identity(self) -> dict[str, Any]:
        """Leave out where the weights come from, but not that they are random ones."""
        random = {} if self.pretrained or self.weights is not None else {"pretrained": False}
        return self.model_dump(mode="json", exclude={"weights", "pretrained"}) | random

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield that the weights are not there."""
        if self.weights is not None and not expanded(self.weights).is_file():
            yield "weights", f"there is no file {self.weights}"


@register("extractor", "encoder", builds=".encoder:EncoderExtractor")
class EncoderExtractorSettings(ExtractorSettings):
    """Features of a semantic encoder: FDD with DINOv2 (arXiv 2306.04675). An encoder's name is short for it."""

    part_specific: ClassVar[frozenset[str]] = frozenset({"network"})

    network: Annotated[Settings, PartField("encoder")] = Field(
        cast(Settings, "dinov2_large"),
        description="any encoder; left open, it reads images of its own size and computes in full precision",
    )
    pooling: Literal["class_token", "mean"] = Field(
        "class_token", description="what is scored: the class token, or the mean of the feature grid"
    )

    @field_validator("network")
    @classmethod
    def _as_published(cls, network: Any) -> Any:
        fitted = network.alone()
        # Published scores are made in float32, and there are fewer images than in training.
        open_precision = "half" in type(network).model_fields and "half" not in network.model_fields_set
        return fitted.model_copy(update={"half": False}) if open_precision else fitted

    @property
    def encoder(self) -> Any:
        """Settings of the encoder; no sibling kind is imported."""
        return self.network

    def width(self) -> int:
        """The network's channels; several layers are joined in its grid alone."""
        encoder = self.encoder
        return int(encoder.token_width() if self.pooling == "class_token" else encoder.width())

    def resize(self) -> str:
        """As the encoder does."""
        return str(self.encoder.resize())

    def untrained(self) -> Self:
        """Return the same with an encoder of random weights."""
        return self.model_copy(update={"network": self.encoder.untrained()})

    def identity(self) -> dict[str, Any]:
        """What decides the encoder's features, and which are taken."""
        return {**super().identity(), "network": self.encoder.identity() | _random(self.encoder)}

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the encoder's weights or images."""
        yield from ((f"network.{key}", message) for key, message in self.encoder.problems())


def _random(encoder: Any) -> dict[str, bool]:
    """Return that an encoder's weights are random ones; scores of these are no scores of the network of that name."""
    trained = getattr(encoder, "pretrained", True) or getattr(encoder, "weights", None) is not None
    return {} if trained else {"pretrained": False}


class NamedEncoderSettings(EncoderExtractorSettings):
    """Base of the encoders as extractors by their own names; each is a subclass (see `encoder_family`)."""

    own: ClassVar[str]

    @field_validator("network", mode="before")
    @classmethod
    def _its_own(cls, network: object) -> object:
        return {"name": cls.own, **network} if isinstance(network, dict) else network

    @field_validator("network")
    @classmethod
    def _no_other(cls, network: Settings) -> Settings:
        if network.name != cls.own:
            raise ValueError(f"is '{network.name}', but extractor '{cls.own}' stands for that encoder alone")
        return network


register_family("extractor", family=".encoder_family:EncoderFamily", builds=".encoder:EncoderExtractor")
