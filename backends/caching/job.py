"""Writing a cache: shard by shard, by any number of processes, from where an earlier attempt stopped."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from torch import Tensor, distributed

from ...components.data.source import Source
from ..console import RunConsole, relative, size
from ..errors import RunFailed, UserError
from ..hardware import free_disk
from ..loader import ImageFeed, batches_at, pieces
from ..processes import FabricMerge
from ..run_lock import LOCK
from ..space import Space
from .estimate import Cost
from .folder import CacheFolder, Key
from .forms import FeatureForm
from .shards import KEYS, ShardRecord, finished, key_numbers, write_shard

CODE, FEATURES, LABELS = "code", "features", "label"
BATCH = 64
ERROR_IMAGES = 256
"""Images on which the error of restored features is measured, once all are stored."""

FAILURES = (UserError, RunFailed, OSError)
"""What ends the work of one process, and so that of all."""

SPARE = 1.05
"""Disk asked for, as a multiple of what is estimated."""


@dataclass(frozen=True)
class CacheJob:
    """Everything that `latsem cache` needs to do its work.

    Attributes:
        form: how features are stored; None where there is no encoder.
        fit_images: images on which the form is measured.
        shard_images: images in a shard.
        cost: what the cache is expected to take.
    """

    source: Source
    space: Space
    form: FeatureForm | None
    folder: CacheFolder
    key: Key
    fit_images: int
    shard_images: int
    cost: Cost

    def run(self, fabric: Fabric, console: RunConsole, *, replace: bool) -> None:
        """Write what is missing; a cache that is whole is only reported.

        Raises:
            UserError: another cache is in the way, another process is writing, or the disk is too small.
            RunFailed: a shard could not be written; those before it stay.
        """
        lock = FileLock(self.folder.path / LOCK)
        try:
            _together(fabric, lambda: self._begin(lock, replace=replace), first_alone=True)
            if self.folder.complete():
                console.say(f"this cache is whole already: {relative(self.folder.path)}")
                return
            self.space.accelerate()
            _together(fabric, lambda: self._measure(fabric, console), first_alone=False)
            _together(fabric, lambda: self._write_share(fabric, console), first_alone=False)
            _together(fabric, self._finish, first_alone=True)
            notes = "".join(f", {name.replace('_', ' ')} {value:.3g}" for name, value in self.folder.notes().items())
            console.say(f"cache      {relative(self.folder.path)}{notes}")
        finally:
            lock.release()

    def _begin(self, lock: FileLock, *, replace: bool) -> None:
        self.folder.path.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"{self.folder.path}: another process is writing this cache") from None
        if replace:
            self.folder.clear()
        self.folder.refuse_other(self.key)
        if self.folder.complete():
            return
        self._check_disk()
        self.folder.begin(self.key)

    def _measure(self, fabric: Fabric, console: RunConsole) -> None:
        """Fit the form of the features, each process on its share of the images, unless that was done before."""
        if self.form is None:
            return
        if fabric.broadcast(self.folder.form_state.is_file()):
            self.form.state = self.folder.load_form()
            return
        console.say(f"measuring features of {self.fit_images:,} images")
        failures: list[Exception] = []
        grids = _until_failure(self._grids(self.fit_images, fabric.global_rank, fabric.world_size), failures)
        try:
            self.form.fit(grids, FabricMerge(fabric))
        except ValueError:
            if not failures:
                raise
        if failures:
            raise failures[0]
        if fabric.is_global_zero:
            self.folder.save_form(self.form.state)

    def _check_disk(self) -> None:
        there = sum(path.stat().st_size for path in self.folder.path.glob("shard-*.safetensors"))
        needed, free = int(SPARE * self.cost.bytes) - there, free_disk(self.folder.path)
        if needed > free:
            raise UserError(
                f"{self.folder.path}: the cache needs {size(needed)} more and the disk has {size(free)}"
                ": --estimate lists smaller forms, cache.folder puts it elsewhere"
            )

    def _grids(self, images: int, rank: int = 0, processes: int = 1) -> Iterator[Tensor]:
        feed, indices = ImageFeed(self.source, self.space), range(rank, min(images, len(self.source)), processes)
        batches = batches_at(feed, indices, min(BATCH, self.space.piece), self.space.device)
        return (grid for grid in map(feed.features, batches) if grid is not None)

    def _shards(self) -> list[range]:
        """Return the images of each shard."""
        return list(pieces(range(len(self.source)), self.shard_images))

    def _write_share(self, fabric: Fabric, console: RunConsole) -> None:
        shards = self._shards()
        for number in range(fabric.global_rank, len(shards), fabric.world_size):
            if self._is_there(number, shards[number]):
                continue
            tensors = self._encode(shards[number])
            try:
                write_shard(self.folder.path, number, shards[number].start, tensors)
            except OSError as error:
                reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
                raise RunFailed(
                    f"{self.folder.path}: shard {number + 1} of {len(shards)} could not be written: {reason}; "
                    "the shards before it stay, and the same command goes on"
                ) from None
            console.say(f"shard {number + 1}/{len(shards)}")

    def _is_there(self, number: int, images: range) -> bool:
        record = finished(self.folder.path, number)
        return record is not None and (record.first, record.images) == (images.start, len(images))

    def _encode(self, images: range) -> dict[str, Tensor]:
        """Return the tensors of a shard: entry `image * variants + variant`."""
        variants, device = self.source.variants, self.space.device
        parts: dict[str, list[Tensor]] = {CODE: []} if self.form is None else {CODE: [], FEATURES: []}
        labels: list[int] = []
        for indices in pieces(images, BATCH):
            items = [self.source.item(index, variant) for index in indices for variant in range(variants)]
            encoded = self.space.encode(torch.stack([image for image, _ in items]).to(device))
            parts[CODE].append(self.space.tokenizer.store(encoded.code).cpu())
            if self.form is not None and encoded.features is not None:
                parts[FEATURES].append(self.form.pack(encoded.features).cpu())
            labels += [label for _, label in items[::variants]]
        tensors = {name: torch.cat(values).contiguous() for name, values in parts.items()}
        keys = key_numbers([self.source.key(index) for index in images])
        return {**tensors, LABELS: torch.tensor(labels), KEYS: keys}

    def _finish(self) -> None:
        records = [self._record(number) for number in range(len(self._shards()))]
        self.folder.finish(self.key, records, self._notes())

    def _record(self, number: int) -> ShardRecord:
        record = finished(self.folder.path, number)
        if record is None:
            raise RunFailed(f"{self.folder.path}: shard {number + 1} is gone; the same command makes it again")
        return record

    def _notes(self) -> dict[str, float]:
        """Return the error of restored features, relative to their spread, where features are what is stored."""
        if self.form is None or not self.form.restores_features:
            return {}
        squared, spread = 0.0, 0.0
        for grid in self._grids(ERROR_IMAGES):
            restored = self.form.unpack(self.form.pack(grid)).features
            assert restored is not None
            squared += float((restored - grid).double().square().sum())
            spread += float((grid - grid.mean((0, 2, 3), keepdim=True)).double().square().sum())
        kept = self.form.state.get("kept")
        error = {"relative_error": (squared / spread) ** 0.5}
        return error if kept is None else {**error, "kept_variance": float(kept)}


def _until_failure(grids: Iterator[Tensor], failures: list[Exception]) -> Iterator[Tensor]:
    """Yield grids up to a failure, which is noted: a process that stopped there would leave the others waiting."""
    try:
        yield from grids
    except FAILURES as failure:
        failures.append(failure)


def _together(fabric: Fabric, work: Callable[[], None], *, first_alone: bool) -> None:
    """Work in the first process or in all of them, and fail in all of them if one fails."""
    problem: Exception | None = None
    if fabric.is_global_zero or not first_alone:
        try:
            work()
        except FAILURES as error:
            problem = error
    if fabric.world_size > 1:
        problems: list[Exception | None] = [None] * fabric.world_size
        distributed.all_gather_object(problems, problem)
        problem = next((each for each in problems if each is not None), None)
    if problem is not None:
        raise problem
