"""Settings of the semantic encoders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator

from ..registry import register, register_family
from ..settings import Settings
from ..user_cache import expanded
from .timm_table import SHORT_NAMES, Architecture, Package

PAPERS_GRID = 16
"""Features a side where nothing else says how many: as many as tokens in the papers, on images of 256 pixels."""

CLASSIFIED = 224
"""Pixels a side that most hierarchical networks were trained on."""


class EncoderSettings(Settings):
    """Base of every encoder's settings: what it gives is known before it is built."""

    def grid(self) -> int:
        """Return the side of the feature grid."""
        raise NotImplementedError

    def width(self) -> int:
        """Return the number of feature channels."""
        raise NotImplementedError

    def token_width(self) -> int:
        """Return the number of channels of the class token."""
        return self.width()

    def resize(self) -> str:
        """Return how images are brought to its size, in a few words."""
        return f"as '{self.name}' does"

    def fitted(self, tokens: int) -> Self:
        """Return the same with everything that was left open chosen for so many image tokens a side."""
        del tokens
        return self

    def alone(self) -> Self:
        """Return the same with everything that was left open chosen for use outside a recipe, as in scores."""
        return self.fitted(PAPERS_GRID)

    def sizes(self, grids: Iterable[int]) -> list[int]:
        """Return the image sizes that make these grids, if the size can be chosen."""
        del grids
        return []

    def untrained(self) -> Self:
        """Return the same architecture, built without fetching weights."""
        return self

    def identity(self) -> dict[str, Any]:
        """Return everything that decides its features, besides the weights themselves, as JSON."""
        return self.model_dump(mode="json")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield `(key, message)` for everything outside the recipe that is not as it should be."""
        return iter(())


class SmallViTSettings(EncoderSettings):
    """Base of the shipped encoders, which share one small architecture: 32x32 images, patch 8, width 96."""

    def grid(self) -> int:
        """4x4 patches."""
        return 4

    def width(self) -> int:
        """96 channels."""
        return 96

    def resize(self) -> str:
        """The size of `shapes`."""
        return "bicubic, antialiased, to 32"


@register("encoder", "shapes_vit", builds=".vit:ShapesEncoder")
class ShapesViTSettings(SmallViTSettings):
    """Small vision transformer trained to tell what is in a `shapes` scene, and where (weights shipped)."""


@register("encoder", "shapes_dino", builds=".vit:ShapesEncoder")
class ShapesDINOSettings(SmallViTSettings):
    """Small vision transformer trained without labels by self-distillation on `shapes` (weights shipped)."""


@register("encoder", "random_vit", builds=".vit:RandomEncoder")
class RandomViTSettings(SmallViTSettings):
    """The same small vision transformer, never trained: the control experiment."""

    seed: int = Field(0, ge=0, description="seed of its random weights")


class TimmSettings(EncoderSettings):
    """Base of the pretrained networks of timm; each is a subclass with its own `architecture` (see `timm_family`)."""

    architecture: ClassVar[Architecture]
    package: ClassVar[Package | None] = None
    # Stages, and the pixels that make a grid of them, are counted otherwise in every network.
    part_specific: ClassVar[frozenset[str]] = frozenset({"layers", "image_size", "weights"})

    layers: list[int] = Field(
        default_factory=lambda: [-1],
        min_length=1,
        description="blocks whose features are taken, or stages of a network of several grids; -1: the last",
    )
    image_size: int | Literal["auto"] = Field(
        "auto", description="side to which images are resized; auto: as many features as the image has tokens"
    )
    combine: Literal["concat", "sum"] = Field("concat", description="how the features of several blocks are joined")
    antialias: bool = Field(True, description="antialias the bicubic resize; off: as ReDi's released code does")
    half: bool = Field(True, description="compute in bfloat16 on a CUDA device that does so natively")
    compile: bool = Field(True, description="compile it on a CUDA device, for the many batches of a run or a cache")
    pretrained: bool = Field(True, description="weights as published; off: random ones, the control experiment")
    weights: Path | None = Field(None, description="a local safetensors file or its folder, instead of the published")

    @field_validator("layers")
    @classmethod
    def _different_blocks(cls, layers: list[int]) -> list[int]:
        known, parts = cls.architecture.stages, cls.architecture.parts
        depth = len(known)
        if any(not -depth <= layer < depth for layer in layers):
            raise ValueError(f"there are {depth} {parts} to take features of: from {-depth} to {depth - 1}")
        if len({layer % depth for layer in layers}) < len(layers):
            raise ValueError(f"a {parts[:-1]} is there twice")
        strides = {known[layer].stride for layer in layers}
        if strides == {0}:
            whole = ", ".join(str(index) for index, stage in enumerate(known) if stage.stride)
            raise ValueError(f"its features lie on no whole number of pixels: take one of the stages {whole}")
        if len(strides) > 1:
            listed = ", ".join(f"{index}: {stage.stride}" for index, stage in enumerate(known))
            raise ValueError(f"stages of one grid can be joined; pixels a feature of each stage: {listed}")
        return layers

    @field_validator("image_size")
    @classmethod
    def _whole_features(cls, size: int | str, info: ValidationInfo) -> int | str:
        if isinstance(size, int) and "layers" in info.data:
            stride = cls.architecture.stages[info.data["layers"][0]].stride
            if size < stride or size > 4096 or size % stride:
                near = max(1, size // stride) * stride
                raise ValueError(f"must be a multiple of {stride} up to 4096, such as {near} or {near + stride}")
        return size

    @field_validator("combine")
    @classmethod
    def _one_width(cls, combine: str, info: ValidationInfo) -> str:
        widths = [cls.architecture.stages[layer].width for layer in info.data.get("layers", ())]
        if combine == "sum" and len(set(widths)) > 1:
            raise ValueError(f"stages of {' and '.join(map(str, widths))} channels cannot be added: concat")
        return combine

    def taken(self) -> list[int]:
        """Return the chosen blocks or stages from the first to the last, counted from the end: -1 is the last."""
        depth = len(self.architecture.stages)
        return sorted(layer % depth - depth for layer in self.layers)

    @property
    def stride(self) -> int:
        """Pixels of an image a feature, along one side."""
        return self.architecture.stages[self.layers[0]].stride

    @property
    def size(self) -> int:
        """Side to which images are resized, pixels."""
        if self.image_size != "auto":
            return self.image_size
        return self.stride * (PAPERS_GRID if self.architecture.plain else max(1, CLASSIFIED // self.stride))

    def fitted(self, tokens: int) -> Self:
        """Return the same with an image size that makes as many features a side as there are tokens, if it is open."""
        return self._sized(self.stride * tokens)

    def alone(self) -> Self:
        """Return the same with an image size like those that it was trained on, if it is open."""
        return self._sized(self.size)

    def _sized(self, size: int) -> Self:
        return self.model_copy(update={"image_size": size}) if self.image_size == "auto" else self

    def sizes(self, grids: Iterable[int]) -> list[int]:
        """Return the image sizes that make these grids."""
        return [self.stride * grid for grid in grids]

    def untrained(self) -> Self:
        """Return the same architecture with random weights."""
        return self.model_copy(update={"pretrained": False, "weights": None})

    def identity(self) -> dict[str, Any]:
        """Leave out where weights come from, and what changes features by rounding at most."""
        values = self.model_dump(mode="json", exclude={"weights", "pretrained", "compile"}) | {"layers": self.taken()}
        # What was kept of such a network before its stages could be chosen is what its head makes of the last one.
        behind_a_head = self.architecture.token != self.architecture.stages[-1].width
        return values | ({"stages": len(self.architecture.stages)} if behind_a_head else {})

    def grid(self) -> int:
        """One feature for a patch, or for as many pixels as one of the chosen stage stands for."""
        return self.size // self.stride

    def width(self) -> int:
        """The channels of the chosen blocks or stages, together or of each."""
        widths = [self.architecture.stages[layer].width for layer in self.layers]
        return sum(widths) if self.combine == "concat" else widths[0]

    def token_width(self) -> int:
        """The channels of its class token, or of what it pools its features to."""
        return self.architecture.token

    def resize(self) -> str:
        """To the chosen size."""
        return f"bicubic, {'antialiased' if self.antialias else 'not antialiased'}, to {self.size}"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield that the weights are not there, or that the network does not take images of this size."""
        if self.weights is not None and not expanded(self.weights).exists():
            yield "weights", f"there is no file or folder {self.weights}"
        if self.package is not None and self.pretrained and self.weights is None and not self.package.installed():
            yield "name", self.package.missing()
        # A plain transformer that is known takes every whole number of patches; others may shrink an image to nothing.
        if not self.architecture.plain or self.architecture not in SHORT_NAMES.values():
            from .timm_probe import refusal  # noqa: PLC0415 - it loads torch

            message = refusal(self.architecture.model, self.size, tuple(self.taken()), self.grid())
            if message:
                yield "image_size", message


register_family("encoder", family=".timm_family:TimmFamily", builds=".timm_encoder:TimmEncoder")
