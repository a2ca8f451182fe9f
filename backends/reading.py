"""Reading training batches in other processes, as if it were done in this one."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ..components.data.source import blocks_of, lose, lost_by
from .errors import UserError
from .loader import Batch, BatchPlan, Feed, Key, MicroBatches
from .settings import TrainSettings


class Read(NamedTuple):
    """What a process has read.

    Attributes:
        lost: names of images that it found unusable, and replaced, for the first time, each with the reason.
        failure: why there is no batch.
    """

    batch: Batch
    lost: tuple[tuple[str, str], ...] = ()
    failure: Exception | None = None


class BatchReader(Dataset[Read]):
    """Reads whole batches of a feed, in this process or in a worker.

    What a worker finds damaged is handed on with the batch: only so is every image named once, and are those that all
    workers found bounded together. Its failures are, too, for an exception that is raised there comes here as a page.
    """

    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    def __getitems__(self, keys: list[Key]) -> Read:
        if get_worker_info() is None:
            return Read(self.feed.read(keys))
        return self._read_for_another_process(keys)

    def _read_for_another_process(self, keys: list[Key]) -> Read:
        known = lost_by(self.feed.source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                batch, failure = self.feed.read(keys), None
            except (OSError, UserError) as error:
                batch, failure = {}, error
        new = {name: reason for name, reason in lost_by(self.feed.source).items() if name not in known}
        return Read(batch, tuple(sorted(new.items())), failure)


def reading_processes(settings: TrainSettings, device: torch.device) -> int:
    """Return how many processes read batches for the one that trains, with `auto` resolved: none on a CPU, 4 else."""
    if settings.workers != "auto":
        return settings.workers
    return 0 if device.type == "cpu" else 4


def training_batches(
    feed: Feed, plan: BatchPlan, *, seed: int, rank: int, steps: range, workers: int, pin: bool
) -> Generator[Batch]:
    """Yield micro-batches for the steps, in order; to be closed, for the sake of the workers.

    Args:
        workers: processes that read them; 0: this one does.
        pin: whether to hold them where a GPU fetches them from.

    Raises:
        ChildProcessError: a worker died in the middle of handing one over.
        OSError, UserError: one could not be read.
    """
    sampler = MicroBatches(len(feed), plan, seed, rank, steps, blocks=blocks_of(feed.source))
    reader: Any = BatchReader(feed)
    loader = DataLoader(reader, batch_sampler=sampler, num_workers=workers, pin_memory=pin, collate_fn=_as_it_is)
    for read in _handed_over(loader):
        for name, reason in read.lost:
            lose(feed.source, name, reason)
        if read.failure is not None:
            raise read.failure
        yield read.batch


def _handed_over(loader: Iterable[Read]) -> Iterator[Read]:
    try:
        yield from loader
    except ConnectionError as error:
        raise ChildProcessError(str(error)) from None


def _as_it_is(read: Any) -> Any:
    return read
