"""Settings of the metrics."""

from __future__ import annotations

from ..registry import register
from ..settings import Settings


class MetricSettings(Settings):
    """Base of every metric's settings."""

    def samples_needed(self, width: int) -> int:
        """Return how many images are needed at least, for features of a width."""
        del width
        return 1


@register("metric", "frechet", builds=".frechet:FrechetDistance")
class FrechetSettings(MetricSettings):
    """Frechet distance between two sets of features taken as Gaussians: FID, on any features (arXiv 1706.08500)."""

    def samples_needed(self, width: int) -> int:
        """More images than features: with fewer, the covariance is singular and the distance means nothing."""
        return width + 1
