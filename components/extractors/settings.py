"""Settings of the scoring networks."""

from __future__ import annotations

from ..registry import register
from ..settings import Settings


class ExtractorSettings(Settings):
    """Base of every scoring network's settings."""

    def width(self) -> int:
        """Return the number of features of an image."""
        raise NotImplementedError


@register("extractor", "shapes_scorer", builds=".scorer:ShapesScorer")
class ShapesScorerSettings(ExtractorSettings):
    """Small convolutional network trained on noisy `shapes`, apart from every encoder (weights shipped)."""

    def width(self) -> int:
        """64 features."""
        return 64
