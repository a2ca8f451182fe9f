"""Settings of the metrics."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from ..registry import register
from ..settings import Settings

Direction = Literal["lower", "higher"]
"""Which way a score is better."""


class MetricSettings(Settings):
    """Base of every metric's settings: what it needs is known before it is built."""

    def samples_needed(self, width: int) -> int:
        """Return how many generated images are needed at least, for features (or logits) of a width."""
        del width
        return 1

    def reference_needed(self, width: int) -> int:
        """Return how many images of the reference are needed at least."""
        return self.samples_needed(width)

    def reason(self) -> str:
        """Return why so many are needed, as the end of a sentence."""
        return "there is nothing to judge"

    def reads(self) -> Literal["features", "logits"]:
        """Return what it reads of an extractor."""
        return "features"

    def reference(self) -> Literal["moments", "features", "nothing"]:
        """Return what it must know of a reference: mean and covariance, every vector, or nothing."""
        return "features"

    def scores(self) -> dict[str, Direction]:
        """Return its scores by name, and which way each is better; spreads are not scores."""
        return {self.name: "lower"}

    def shortage(self, width: int, count: int, *, of_reference: bool = False) -> str:
        """Return that so many images are too few, and why; nothing if they are enough."""
        needed = self.reference_needed(width) if of_reference else self.samples_needed(width)
        if count >= needed:
            return ""
        which = "reference" if of_reference else "generated"
        what = f"{self.name} on {width} {self.reads()}"
        return f"{what} needs at least {needed}, not {count} {which} images: {self.reason()}"


@register("metric", "frechet", builds=".frechet:FrechetDistance")
class FrechetSettings(MetricSettings):
    """Frechet distance between two sets of features taken as Gaussians: FID, on any features (arXiv 1706.08500)."""

    def samples_needed(self, width: int) -> int:
        """More images than features: with fewer, the covariance is singular and the distance means nothing."""
        return width + 1

    def reason(self) -> str:
        """Singular covariances."""
        return "the covariance of fewer images than features is singular"

    def reference(self) -> Literal["moments", "features", "nothing"]:
        """Moments are enough."""
        return "moments"


@register("metric", "kernel", builds=".kernel:KernelDistance")
class KernelSettings(MetricSettings):
    """Kernel distance, the squared MMD of a polynomial kernel: KID, on any features (arXiv 1801.01401)."""

    subset_size: int | Literal["all"] = Field(
        1000, description="images of either set in one estimate, at most; all: one exact estimate from every pair"
    )
    subsets: int = Field(100, ge=1, description="estimates whose mean is the distance")
    degree: int = Field(3, ge=1, description="degree of the kernel (gamma x.y + coef0)^degree")
    gamma: float | Literal["auto"] = Field("auto", description="factor of x.y; auto: one over the number of features")
    coef0: float = Field(1.0, ge=0, description="constant of the kernel")
    seed: int = Field(2020, ge=0, lt=2**32, description="seed by which subsets are drawn (2020: as torch-fidelity)")

    @field_validator("subset_size")
    @classmethod
    def _pairs(cls, size: int | str) -> int | str:
        if isinstance(size, int) and size < 2:
            raise ValueError("must be at least 2: different images are compared")
        return size

    def samples_needed(self, width: int) -> int:
        """Two have one pair."""
        del width
        return 2

    def reason(self) -> str:
        """No image is compared with itself."""
        return "different images are compared"

    def scores(self) -> dict[str, Direction]:
        """The mean; `kernel_std` beside it is the spread of the estimates."""
        return {"kernel": "lower"}


class NeighbourSettings(MetricSettings):
    """Base of metrics that see a set as the balls that reach to every point's k-th nearest neighbour."""

    k: int = Field(3, ge=1, description="neighbour that a ball reaches to")

    def samples_needed(self, width: int) -> int:
        """A point and its neighbours."""
        del width
        return self.k + 1

    def reason(self) -> str:
        """A ball needs its neighbours."""
        return "each has k others as neighbours"


@register("metric", "precision_recall", builds=".precision_recall:PrecisionRecall")
class PrecisionRecallSettings(NeighbourSettings):
    """Improved precision and recall: how much of either set lies within the other (arXiv 1904.06991)."""

    def scores(self) -> dict[str, Direction]:
        """Both are shares."""
        return {"precision": "higher", "recall": "higher"}


@register("metric", "density_coverage", builds=".density_coverage:DensityCoverage")
class DensityCoverageSettings(NeighbourSettings):
    """Density and coverage: precision and recall that outliers of the data spoil less (arXiv 2002.09797)."""

    k: int = Field(5, ge=1, description="neighbour that a ball reaches to")

    def samples_needed(self, width: int) -> int:
        """Only balls of the reference count."""
        del width
        return 1

    def reference_needed(self, width: int) -> int:
        """A point and its neighbours."""
        return super().samples_needed(width)

    def scores(self) -> dict[str, Direction]:
        """A share, and a mean number of balls over k, which may exceed 1."""
        return {"density": "higher", "coverage": "higher"}


@register("metric", "inception_score", builds=".inception_score:InceptionScore")
class InceptionScoreSettings(MetricSettings):
    """Inception score: classes that are sure of an image and many over all images (arXiv 1606.03498)."""

    splits: int = Field(10, ge=1, description="parts of the images whose mean score is the score")
    shuffle: bool = Field(True, description="draw the parts at random; off: in the order of the images")
    seed: int = Field(2020, ge=0, lt=2**32, description="seed by which they are drawn (2020: as torch-fidelity)")

    def samples_needed(self, width: int) -> int:
        """One for a part."""
        del width
        return self.splits

    def reference_needed(self, width: int) -> int:
        """None."""
        del width
        return 0

    def reason(self) -> str:
        """No part is empty."""
        return "there is one for each of the splits"

    def reads(self) -> Literal["features", "logits"]:
        """What a classifier says."""
        return "logits"

    def reference(self) -> Literal["moments", "features", "nothing"]:
        """It compares with nothing."""
        return "nothing"

    def scores(self) -> dict[str, Direction]:
        """The mean; `inception_score_std` beside it is the spread over the parts."""
        return {"inception_score": "higher"}
