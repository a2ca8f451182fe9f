"""The endless, restartable stream of training batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..components.data.source import Source
from .randomness import derived_generator, derived_seed

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

    def __str__(self) -> str:
        return f"{self.batch_size} = {self.devices} x {self.micro_batch} x {self.accumulation}"


class _Items(Dataset[tuple[Tensor, int]]):
    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        return self.source.item(*key)


class MicroBatches(Sampler[list[Key]]):
    """Keys of every micro-batch of one process from a step on.

    The clock is the number of images seen: image k of the run is entry `k % N` of the permutation of epoch `k // N`.
    """

    def __init__(self, size: int, plan: BatchPlan, seed: int, rank: int, steps: range) -> None:
        self.size, self.plan, self.seed, self.rank, self.steps = size, plan, seed, rank, steps
        self._permutation = lru_cache(maxsize=2)(self._permute)

    def __len__(self) -> int:
        return len(self.steps) * self.plan.accumulation

    def __iter__(self) -> Iterator[list[Key]]:
        share = self.plan.micro_batch * self.plan.accumulation
        for step in self.steps:
            start = step * self.plan.batch_size + self.rank * share
            for first in range(start, start + share, self.plan.micro_batch):
                yield [self._key(position) for position in range(first, first + self.plan.micro_batch)]

    def _permute(self, epoch: int) -> list[int]:
        generator = derived_generator("cpu", "order", self.seed, epoch)
        order: list[int] = torch.randperm(self.size, generator=generator).tolist()
        return order

    def _key(self, position: int) -> Key:
        epoch, place = divmod(position, self.size)
        index = self._permutation(epoch)[place]
        return index, derived_seed("augment", self.seed, epoch, index)


def training_batches(
    source: Source, plan: BatchPlan, *, seed: int, rank: int, steps: range, workers: int, pin: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield micro-batches of images `(b, 3, H, W)` uint8 and labels `(b,)` for the steps, in order."""
    sampler = MicroBatches(len(source), plan, seed, rank, steps)
    loader = DataLoader(_Items(source), batch_sampler=sampler, num_workers=workers, pin_memory=pin)
    return iter(loader)


def fixed_batches(source: Source, indices: range, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and labels at fixed indices, without augmentation."""
    for start in range(0, len(indices), batch_size):
        items = [source.item(index, 0) for index in indices[start : start + batch_size]]
        yield torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])
