"""Scores: features of generated images against features of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..components.data.source import Source
from ..components.extractors.extractor import Extracted, Extractor
from ..components.images import to_pixels
from ..components.metrics.metric import Metric, Statistics
from .generation import ImageGenerator
from .loader import fixed_batches
from .settings import EvaluateSettings

EXTRACTED_AT_ONCE = 64
"""Images that an extractor takes at a time: its first layers hold a hundred times what an image does."""


def extracted(extractor: Extractor, images: Tensor, device: torch.device) -> Extracted:
    """Return what an extractor says of images `(N, 3, H, W)` uint8."""
    parts = [extractor(part.to(device)) for part in images.split(EXTRACTED_AT_ONCE)]
    logits = [part.logits for part in parts if part.logits is not None]
    return Extracted(torch.cat([part.features for part in parts]), torch.cat(logits) if logits else None)


@dataclass
class Evaluator:
    """Scores generators against one data source; the reference's statistics are taken once."""

    settings: EvaluateSettings
    source: Source
    extractor: Extractor
    metrics: Mapping[str, Metric]
    device: torch.device
    _reference: dict[str, Statistics] = field(default_factory=dict)

    def reference_size(self) -> int:
        """Return the number of reference images: the first ones of the source."""
        return min(self.settings.reference, len(self.source))

    def reference(self) -> dict[str, Statistics]:
        """Return statistics of the reference by metric."""
        if not self._reference:
            statistics = {name: metric.statistics() for name, metric in self.metrics.items()}
            for images, _ in fixed_batches(self.source, range(self.reference_size()), self.settings.batch_size):
                self._update(statistics, images)
            self._reference = statistics
        return self._reference

    def score(self, generator: ImageGenerator, progress: Callable[[int], None] | None = None) -> dict[str, float]:
        """Generate the settings' number of images and return the scores by name."""
        statistics = {name: metric.statistics() for name, metric in self.metrics.items()}
        for images in generator.batches(range(self.settings.samples), self.settings.batch_size, self.settings.seed):
            # Scored as they would be stored: in 8 bits.
            self._update(statistics, to_pixels(images))
            if progress:
                progress(len(images))
        reference = self.reference()
        computed = [metric.compute(statistics[name], reference[name]) for name, metric in self.metrics.items()]
        return {name: score for scores in computed for name, score in scores.items()}

    def _update(self, statistics: dict[str, Statistics], images: Tensor) -> None:
        found = extracted(self.extractor, images, self.device)
        for name, each in statistics.items():
            values = found.logits if self.metrics[name].settings.reads() == "logits" else found.features
            assert values is not None
            each.update(values)
