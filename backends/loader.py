"""The endless, restartable stream of training batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Sampler

from ..components.data.source import Source, blocks_of
from .errors import UserError
from .order import epoch_order
from .randomness import derived_generator, derived_seed
from .space import Encoded, Space

Key = tuple[int, int]
"""Index of an image, and the seed of its augmentation."""


@dataclass(frozen=True)
class BatchPlan:
    """How a global batch is cut: `batch_size = devices x micro_batch x accumulation`.

    Raises:
        ValueError: the numbers do not divide.
    """

    batch_size: int
    devices: int
    micro_batch: int

    def __post_init__(self) -> None:
        if self.batch_size % (self.devices * self.micro_batch):
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of {self.devices} device(s) "
                f"x micro_batch {self.micro_batch}"
            )

    @property
    def accumulation(self) -> int:
        """Micro-batches a device computes for one step."""
        return self.batch_size // (self.devices * self.micro_batch)

    def share(self, rank: int) -> range:
        """Return which places of the batch are those of a process."""
        size = self.batch_size // self.devices
        return range(rank * size, (rank + 1) * size)

    def parts(self, rank: int) -> Iterator[range]:
        """Yield the places of a process's micro-batches."""
        yield from pieces(self.share(rank), self.micro_batch)

    def __str__(self) -> str:
        return f"{self.batch_size} = {self.devices} x {self.micro_batch} x {self.accumulation}"


def batch_plan(batch_size: int, micro_batch: int | str, devices: int) -> BatchPlan:
    """Return the plan for a number of devices, with `auto` resolved to a device's whole share.

    Raises:
        UserError: the numbers do not divide.
    """
    micro = batch_size // devices if isinstance(micro_batch, str) else micro_batch
    try:
        return BatchPlan(batch_size, devices, max(1, micro))
    except ValueError as error:
        raise UserError(f"train: {error}") from None


Batch = dict[str, Tensor]
"""What a feed reads of some images, by name: labels `(B,)` under `LABEL`, and the images or what is stored of them."""

LABEL = "label"
IMAGES = "images"


class Feed(Protocol):
    """Where training batches come from: images that are encoded on the way, or what was stored of them.

    Attributes:
        source: the images themselves.
    """

    source: Source

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def read(self, keys: Sequence[Key]) -> Batch:
        """Return the entries of some images, in their order."""
        ...

    def encode(self, batch: Batch) -> Encoded:
        """Return what the frozen networks make of a batch that is on the device."""
        ...

    def code(self, batch: Batch) -> Tensor:
        """Return what the tokenizer alone makes of it."""
        ...

    def features(self, batch: Batch) -> Tensor | None:
        """Return what the encoder alone makes of it: feature grids, if there is an encoder and they are stored."""
        ...


class ImageFeed:
    """Images, encoded at every step."""

    def __init__(self, source: Source, space: Space) -> None:
        self.source, self.space = source, space

    def __len__(self) -> int:
        return len(self.source)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the networks behind: other processes only read."""
        return {"source": self.source}

    def read(self, keys: Sequence[Key]) -> Batch:
        """Return images and labels."""
        images, labels = zip(*(self.source.item(*key) for key in keys), strict=True)
        return {IMAGES: torch.stack(images), LABEL: torch.tensor(labels)}

    def encode(self, batch: Batch) -> Encoded:
        """Run the frozen networks."""
        return self.space.encode(batch[IMAGES])

    def code(self, batch: Batch) -> Tensor:
        """Run the tokenizer."""
        return self.space.code(batch[IMAGES])

    def features(self, batch: Batch) -> Tensor | None:
        """Run the encoder."""
        return self.space.features(batch[IMAGES])


class MicroBatches(Sampler[list[Key]]):
    """Keys of every micro-batch of one process from a step on.

    The clock is the number of images seen: image k of the run is entry `k % N` of the permutation of epoch `k // N`,
    which is a function of the seed, the epoch and the source's blocks (see `epoch_order`).
    """

    def __init__(
        self, size: int, plan: BatchPlan, seed: int, rank: int, steps: range, *, blocks: Sequence[int] | None = None
    ) -> None:
        self.size, self.plan, self.seed, self.rank, self.steps = size, plan, seed, rank, steps
        self.blocks = blocks
        self._permutation = lru_cache(maxsize=2)(self._permute)

    def __len__(self) -> int:
        return len(self.steps) * self.plan.accumulation

    def __iter__(self) -> Iterator[list[Key]]:
        for step in self.steps:
            for part in self.plan.parts(self.rank):
                yield [self._key(step * self.plan.batch_size + place) for place in part]

    def _permute(self, epoch: int) -> list[int]:
        return epoch_order(self.size, derived_generator("cpu", "order", self.seed, epoch), self.blocks)

    def _key(self, position: int) -> Key:
        epoch, place = divmod(position, self.size)
        index = self._permutation(epoch)[place]
        return index, derived_seed("augment", self.seed, epoch, index)


def step_batches(feed: Feed, plan: BatchPlan, *, seed: int, rank: int, step: int) -> Iterator[tuple[list[Key], Batch]]:
    """Yield the micro-batches of one step again, with the keys of their images."""
    for keys in MicroBatches(len(feed), plan, seed, rank, range(step - 1, step), blocks=blocks_of(feed.source)):
        yield keys, feed.read(keys)


def pieces(indices: range, size: int) -> Iterator[range]:
    """Yield a range in pieces of at most `size`."""
    return (indices[start : start + size] for start in range(0, len(indices), size))


def batches_at(feed: Feed, indices: range, batch_size: int, device: torch.device) -> Iterator[Batch]:
    """Yield what a feed reads of images at fixed indices, without augmentation, on a device."""
    for piece in pieces(indices, batch_size):
        batch = feed.read([(index, 0) for index in piece])
        yield {name: values.to(device) for name, values in batch.items()}


def fixed_batches(source: Source, indices: range, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and labels at fixed indices, without augmentation."""
    for piece in pieces(indices, batch_size):
        items = [source.item(index, 0) for index in piece]
        yield torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])
