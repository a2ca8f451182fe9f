"""Watches what the semantic stream of a run holds, beside a fixed projection of as many channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ..components.projections.health import (
    FeatureSample,
    FeatureSampler,
    principal_angle,
    stream_health,
    stream_of_vectors,
)
from ..components.projections.projection import Projection
from ..components.registry import create
from .assembly import Assembly
from .loader import LABEL, batches_at
from .model import JointModel
from .reporting.run_files import FIXED, SEMANTIC_HEALTH

IMAGES = 2048
AT_ONCE = 128


class SemanticHealth:
    """Measures the stream of the last images of the data; the fixed projection is a whitened PCA of their features.

    Features are read when they are first needed, and again in every process that resumes the run.

    Args:
        warn: is told, once, when the accuracy of a projection that learns falls clearly below that of the fixed one.

    Attributes:
        latest: what was measured last; empty before.
    """

    def __init__(self, assembly: Assembly, fabric: Fabric, warn: Callable[[str], None]) -> None:
        self.assembly, self.fabric, self.warn = assembly, fabric, warn
        own = assembly.model.projection
        self.learns = own is not None and any(True for _ in own.parameters())
        self.images = min(IMAGES, max(2, assembly.fit_images // 2), len(assembly.feed))
        self._sample: FeatureSample | None = None
        self._fixed: dict[str, float] = {}
        self._fixed_stream = torch.empty(0)
        self._warned = False
        self.latest: dict[str, float] = {}

    def after_step(self, step: int, average: Callable[[], JointModel]) -> dict[str, float]:
        """Measure the moving average if its turn has come; a projection that does not learn is measured at the end.

        Args:
            average: returns the moving average; all processes ask for it together, and the first one measures.
        """
        train = self.assembly.train
        on_the_way = self.learns and train.health_every > 0 and step % train.health_every == 0
        if self.assembly.model.projection is None or not (on_the_way or step == train.steps):
            return {}
        projection = average().projection
        return self.measure(projection) if projection is not None and self.fabric.is_global_zero else {}

    def measure(self, projection: Projection) -> dict[str, float]:
        """Return figures of a projection by the name under which they are logged; none where features are not kept."""
        sample = self._sample or self._read(projection)
        if sample is None:
            return {}
        found = stream_health(projection, sample)
        found["angle"] = principal_angle(stream_of_vectors(projection, sample.positions), self._fixed_stream)
        self._look(found)
        beside = {f"{name}{FIXED}": value for name, value in self._fixed.items()}
        self.latest = {f"{SEMANTIC_HEALTH}{name}": value for name, value in (found | beside).items()}
        return self.latest

    def _read(self, projection: Projection) -> FeatureSample | None:
        """Read the sample, and measure the fixed projection on it."""
        sampler = FeatureSampler(self.images, labelled=self.assembly.num_classes > 1)
        fixed: Projection = create(
            "projection", "pca", channels=projection.channels, whiten=True, features=projection.features
        )
        grids = self._grids(sampler)
        first = next(grids, None)
        if first is None:
            return None
        fixed.fit(chain([first], grids))
        self._sample = sampler.sample()
        fixed.to(self.fabric.device)
        self._fixed = stream_health(fixed, self._sample)
        self._fixed_stream = stream_of_vectors(fixed, self._sample.positions)
        return self._sample

    def _grids(self, sampler: FeatureSampler) -> Iterator[Tensor]:
        feed = self.assembly.feed
        size = min(AT_ONCE, self.assembly.space.piece)
        for batch in batches_at(feed, range(len(feed) - self.images, len(feed)), size, self.fabric.device):
            grid = feed.features(batch)
            if grid is not None and grid.shape[3] > 1:
                sampler.add(grid, batch[LABEL])
                yield grid

    def _look(self, found: Mapping[str, float]) -> None:
        if self._warned or not self.learns or "accuracy" not in found:
            return
        now, fixed = found["accuracy"], self._fixed["accuracy"]
        # Both are shares of the same images; twice the standard error of one bounds what chance alone does.
        if now < fixed - max(0.03, 2 * math.sqrt(fixed * (1 - fixed) / self.images)):
            self._warned = True
            self.warn(
                f"the semantic stream loses meaning while it is learned: nearest-neighbour accuracy {now:.2f}, "
                f"{fixed:.2f} with a fixed projection (see projection.learns_from and projection.lr)"
            )


def summary(values: Mapping[str, float]) -> str:
    """Return measured figures as one line for the screen, empty if there are none."""
    names = {"accuracy": "nearest-neighbour accuracy", "variance": "share of variance", "rank": "effective rank"}
    parts = [
        f"{words} {values[SEMANTIC_HEALTH + name]:.3g} (fixed projection {values[SEMANTIC_HEALTH + name + FIXED]:.3g})"
        for name, words in names.items()
        if SEMANTIC_HEALTH + name in values
    ]
    return ", ".join(parts)
