"""Numbers of the right shape in the place of data, so that a step can be timed where no data is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...components.data.source import Source
from ..caching.forms import FeatureForm
from ..caching.job import CODE, FEATURES
from ..loader import IMAGES, LABEL, Batch, Key
from ..space import Encoded, Space


class StandInFeed:
    """A feed that is never read. It encodes random images on line, or restores random numbers as if from a cache.

    Args:
        form: the form of stored features; None if there are none.
        stored: whether batches are what a cache holds.
    """

    def __init__(self, source: Source, space: Space, form: FeatureForm | None, *, stored: bool) -> None:
        self.source, self.space, self.form, self.stored = source, space, form, stored

    def __len__(self) -> int:
        return len(self.source)

    def read(self, keys: Sequence[Key]) -> Batch:
        """Refuse: there is nothing to read."""
        raise NotImplementedError

    def batch(self, count: int) -> Batch:
        """Return a random batch on the CPU, as a feed reads it."""
        generator = torch.Generator().manual_seed(0)
        side = self.source.image_size
        labels = torch.randint(0, max(1, self.source.num_classes), (count,), generator=generator)
        images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
        if not self.stored:
            return {LABEL: labels, IMAGES: images}
        encoded = self.space.encode(images[:1].to(self.space.device))
        entries = {CODE: self.space.tokenizer.store(encoded.code)}
        if self.form is not None and encoded.features is not None:
            entries[FEATURES] = self.form.pack(encoded.features)
        return {LABEL: labels, **{name: _like(entry, count, generator) for name, entry in entries.items()}}

    def encode(self, batch: Batch) -> Encoded:
        """Return what the model takes."""
        if not self.stored:
            return self.space.encode(batch[IMAGES])
        restored = {} if self.form is None else vars(self.form.unpack(batch[FEATURES]))
        return Encoded(code=self.code(batch), **restored)

    def code(self, batch: Batch) -> Tensor:
        """Return what the tokenizer makes of a batch."""
        return self.space.tokenizer.restore(batch[CODE]) if self.stored else self.space.code(batch[IMAGES])

    def features(self, batch: Batch) -> Tensor | None:
        """Return what the encoder makes of a batch."""
        return self.encode(batch).features


def _like(entry: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return random entries of the kind of one."""
    size = (count, *entry.shape[1:])
    if entry.is_floating_point():
        return torch.randn(size, generator=generator).to(entry.dtype)
    limits = torch.iinfo(entry.dtype)
    return torch.randint(limits.min, limits.max + 1, size, generator=generator, dtype=torch.int64).to(entry.dtype)
