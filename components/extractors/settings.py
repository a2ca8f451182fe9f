"""Settings of the scoring networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from ..registry import register
from ..settings import Settings


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
