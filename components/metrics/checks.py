"""What metrics refuse."""

from __future__ import annotations

import math

from torch import Tensor

from ..feature_set import FeatureSet
from .metric import Statistics
from .settings import MetricSettings


def require_images(
    settings: MetricSettings, width: int, generated: Statistics, reference: Statistics | None = None
) -> None:
    """Accept statistics of enough images.

    Raises:
        ValueError: there are too few, or no reference where one is needed.
    """
    if reference is None and settings.reference() != "nothing":
        raise ValueError(f"{settings.name} compares with a reference, and there is none")
    shortage = settings.shortage(width, generated.count)
    if not shortage and reference is not None:
        shortage = settings.shortage(width, reference.count, of_reference=True)
    if shortage:
        raise ValueError(shortage)


def checked_values(
    settings: MetricSettings, width: int, generated: FeatureSet, reference: FeatureSet | None
) -> tuple[Tensor, Tensor]:
    """Return the vectors of two sets that are large enough, each `(N, D)` and finite.

    Raises:
        ValueError: too few, no reference, or not finite.
    """
    require_images(settings, width, generated, reference)
    assert reference is not None
    for which, vectors in (("generated", generated), ("reference", reference)):
        require_finite_values(settings, vectors.values, which)
    return generated.values, reference.values


def require_finite_values(settings: MetricSettings, values: Tensor, which: str) -> None:
    """Accept vectors without infinities and NaN.

    Raises:
        ValueError: there are some.
    """
    if not bool(values.isfinite().all()):
        raise ValueError(f"{settings.name}: {settings.reads()} of {which} images are not finite")


def finite(settings: MetricSettings, scores: dict[str, float]) -> dict[str, float]:
    """Return scores that are all finite.

    Raises:
        ValueError: one is not.
    """
    for name, score in scores.items():
        if not math.isfinite(score):
            raise ValueError(f"{settings.name}: {name} is not finite: the images or their {settings.reads()} are not")
    return scores
