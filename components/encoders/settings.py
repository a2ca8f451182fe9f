"""Settings of the semantic encoders."""

from __future__ import annotations

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
