"""Statistics that are taken from the data before the first step."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_fabric import Fabric

from .assembly import Assembly
from .loader import Batch, batches_at
from .processes import FabricMerge

FIT_BATCH = 128


def fit_statistics(assembly: Assembly, fabric: Fabric) -> None:
    """Measure on the first images of the data what projection and tokenizer need, unless they have it.

    Every process takes its share of the images; the sums of all are put together.
    """
    merge, feed = FabricMerge(fabric), assembly.feed

    def share(count: int) -> Iterator[Batch]:
        indices = range(fabric.global_rank, min(count, len(feed)), fabric.world_size)
        return batches_at(feed, indices, min(FIT_BATCH, assembly.space.piece), fabric.device)

    projection = assembly.model.projection
    if projection is not None and not bool(projection.fitted):
        found = (feed.features(batch) for batch in share(assembly.fit_images))
        projection.fit((grid for grid in found if grid is not None), merge)
    assembly.space.tokenizer.fit((feed.code(batch) for batch in share(assembly.measure_images)), merge)
