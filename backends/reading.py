"""Reading training batches in other processes, as if it were done in this one."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ..components.data.source import blocks_of, lose, lost_by
from .errors import UserError, system_line
from .loader import Batch, BatchPlan, Feed, Key, MicroBatches
from .settings import TrainSettings
from .shown import size

SHARED = "/dev/shm"  # noqa: S108
LIMIT = 1800
"""Seconds after which a batch that has not come ends the run (our choice: longer than any storage is busy)."""


class Piped(NamedTuple):
    """A tensor on its way through a pipe, where shared memory has no room for it.

    Attributes:
        content: its bytes.
    """

    content: Any
    dtype: torch.dtype
    shape: Sequence[int]


class Read(NamedTuple):
    """What a process has read.

    Attributes:
        batch: the tensors, in shared memory if another process has read them and there is room.
        lost: names of images that it found unusable, and replaced, for the first time, each with the reason.
        failure: why there is no batch.
    """

    batch: dict[str, Tensor | Piped]
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
            return Read({**self.feed.read(keys)})
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
        handed = {name: _handed(tensor) for name, tensor in batch.items()}
        return Read(handed, tuple(sorted(new.items())), failure)


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
        TimeoutError: no batch has come for half an hour.
        OSError, UserError: one could not be read.
    """
    sampler = MicroBatches(len(feed), plan, seed, rank, steps, blocks=blocks_of(feed.source))
    reader: Any = BatchReader(feed)
    how: Any = {"batch_sampler": sampler, "pin_memory": pin, "collate_fn": _as_it_is}
    # It draws a seed for the workers, which has nothing to decide here, and is not to come from torch's global state.
    how["generator"] = torch.Generator()
    told = False
    for read in _handed_over(_started(reader, workers, how)):
        for name, reason in read.lost:
            lose(feed.source, name, reason)
        if read.failure is not None:
            raise read.failure
        if not told and any(isinstance(value, Piped) for value in read.batch.values()):
            told = True
            warnings.warn(_little_shared_memory(), stacklevel=2)
        yield {name: _received(value) for name, value in read.batch.items()}


def _started(reader: Any, workers: int, how: dict[str, Any]) -> Iterator[Read]:
    """Return an iterator over batches; where no other process can be started, this one reads."""
    if workers:
        try:
            return iter(DataLoader(reader, num_workers=workers, timeout=LIMIT, **how))
        except OSError as error:
            warnings.warn(
                f"no processes to read images can be started ({system_line(error)}); the one that trains reads",
                stacklevel=2,
            )
    return iter(DataLoader(reader, num_workers=0, **how))


def _handed_over(reads: Iterator[Read]) -> Iterator[Read]:
    try:
        yield from reads
    except ConnectionError as error:
        raise ChildProcessError(str(error)) from None
    except RuntimeError as error:
        if "DataLoader timed out" not in str(error):
            raise
        raise TimeoutError(f"the processes that read images have given no batch for {LIMIT // 60} minutes") from None


def _handed(tensor: Tensor) -> Tensor | Piped:
    """Put a tensor into shared memory, or prepare it for a pipe: torch itself would wait for ever in a small one."""
    try:
        return tensor.share_memory_()
    except RuntimeError:
        plain = tensor.contiguous()
        return Piped(plain.view(-1).view(torch.uint8).numpy(), plain.dtype, tuple(plain.shape))


def _received(value: Tensor | Piped) -> Tensor:
    if isinstance(value, Piped):
        return torch.from_numpy(value.content).view(value.dtype).view(tuple(value.shape))
    return value


def _little_shared_memory() -> str:
    """Return what to do about shared memory that has no room for a batch."""
    try:
        there = f" of {size(shutil.disk_usage(SHARED).total)}"
    except OSError:
        there = ""
    return (
        f"{SHARED}{there} has no room for batches: they come through pipes, which is slower; give the container more "
        "(docker run --shm-size=1g)"
    )


def _as_it_is(read: Any) -> Any:
    return read
