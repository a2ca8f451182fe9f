"""Settings of the semantic encoders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from ..registry import register
from ..settings import Settings


class EncoderSettings(Settings):
    """Base of every encoder's settings: what it gives is known before it is built."""

    def grid(self) -> int:
        """Return the side of the feature grid."""
        raise NotImplementedError

    def width(self) -> int:
        """Return the number of feature channels."""
        raise NotImplementedError

    def untrained(self) -> EncoderSettings:
        """Return settings of the same architecture whose weights are not fetched; itself where nothing is."""
        return self

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


DINOV2_PATCH = 14


@register("encoder", "dinov2_base_reg", builds=".timm_vit:TimmViT")
class DINOv2BaseSettings(EncoderSettings):
    """DINOv2 of base size with registers, the encoder of ReDi (arXiv 2304.07193, 2309.16588; weights from the hub)."""

    model: ClassVar[str] = "vit_base_patch14_reg4_dinov2.lvd142m"

    image_size: int = Field(
        224,
        ge=DINOV2_PATCH,
        le=2240,
        multiple_of=DINOV2_PATCH,
        description="side to which images are resized (ReDi: 224)",
    )
    pretrained: bool = Field(True, description="weights from the hub; off: random ones, the control experiment")
    weights: Path | None = Field(None, description="a local safetensors file of the weights, instead of the hub")

    def grid(self) -> int:
        """One feature for 14x14 pixels."""
        return self.image_size // DINOV2_PATCH

    def width(self) -> int:
        """768 channels."""
        return 768

    def untrained(self) -> EncoderSettings:
        """Return the same network with random weights."""
        return self.model_copy(update={"pretrained": False, "weights": None})

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield that the file of weights is not there."""
        if self.weights is not None and not self.weights.expanduser().is_file():
            yield "weights", f"there is no file {self.weights}"
