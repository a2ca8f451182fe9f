"""Writing a cache: shard by shard, by any number of processes, from where an earlier attempt stopped."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from torch import Tensor, distributed

from ...components.data.record import SourceRecord
from ...components.data.source import Source
from ..console import RunConsole
from ..errors import RunFailed, UserError
from ..hardware import free_disk
from ..loader import ImageFeed, batches_at, pieces
from ..processes import FabricMerge
from ..run_lock import LOCK
from ..shown import relative, size
from ..space import Space
from .estimate import Cost
from .folder import Store
from .forms import FeatureForm
from .shards import KEYS, ShardRecord, finished, key_numbers, remedy, write_shard

CODE, FEATURES, LABELS = "code", "features", "label"
BATCH = 64
ERROR_IMAGES = 256
"""Images on which the error of restored features is measured, once all are stored."""

FAILURES = (UserError, RunFailed, OSError)
"""What ends the work of one process, and so that of all."""

SPARE = 1.05
"""Disk asked for, as a multiple of what is estimated."""


def tensors_of(store: str) -> set[str]:
    """Return the names of the tensors in every shard of a store; labels are kept once, beside the codes."""
    return {KEYS, store} | ({LABELS} if store == CODE else set())


@dataclass(frozen=True)
class CacheJob:
    """Everything that `latsem cache` needs to do its work.

    Attributes:
        form: how features are stored; None where there is no encoder.
        stores: what is to be there: codes and, where there is a form, features.
        fit_images: images on which the form is measured.
        shard_images: images in a shard.
        cost: what the stores are expected to take together.
    """

    source: Source
    space: Space
    form: FeatureForm | None
    stores: Sequence[Store]
    fit_images: int
    shard_images: int
    cost: Cost

    def run(self, fabric: Fabric, console: RunConsole, *, replace: bool) -> None:
        """Write what is missing of every store; one that is whole has its sums compared, damaged shards are rewritten.

        Raises:
            UserError: another cache is in the way, another process is writing, or the disk is too small.
            RunFailed: a shard could not be written; those before it stay.
        """
        with ExitStack() as locks:
            _together(fabric, lambda: self._begin(locks, console, replace=replace), first_alone=True)
            whole = fabric.broadcast([store.folder.complete() for store in self.stores])
            missing = [store for store, there in zip(self.stores, whole, strict=True) if not there]
            if not missing:
                console.say(f"this cache is whole already: {self._shown()}")
                return
            self.space.accelerate()
            _together(fabric, lambda: self._measure(missing, fabric, console), first_alone=False)
            _together(fabric, lambda: self._write_share(missing, fabric, console), first_alone=False)
            _together(fabric, lambda: self._finish(missing), first_alone=True)
            found = [store.folder.notes() for store in self.stores]
            notes = "".join(f", {name.replace('_', ' ')} {value:.3g}" for each in found for name, value in each.items())
            console.say(f"cache      {self._shown()}{notes}")

    def _shown(self) -> str:
        return " + ".join(relative(store.folder.path) for store in self.stores)

    def _begin(self, locks: ExitStack, console: RunConsole, *, replace: bool) -> None:
        for store in self.stores:
            folder = store.folder
            folder.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.path / LOCK)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise UserError(
                    f"{folder.path}: another process is writing this cache: repeat the command when it has finished"
                ) from None
            locks.callback(lock.release)
            if replace:
                folder.clear()
            folder.refuse_other(store.key, self.source)
            if folder.complete():
                _drop_damaged(store, console)
        missing = [store for store in self.stores if not store.folder.complete()]
        if missing:
            self._check_disk(missing)
            record = SourceRecord.of(self.source)
            for store in missing:
                store.folder.begin(store.key, record)

    def _measure(self, missing: Sequence[Store], fabric: Fabric, console: RunConsole) -> None:
        """Fit the form of the features, each process on its share of the images, unless that was done before."""
        features = next((store.folder for store in missing if store.tensor == FEATURES), None)
        if self.form is None or features is None:
            return
        if fabric.broadcast(features.form_state.is_file()):
            self.form.state = features.load_form()
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
            features.save_form(self.form.state)

    def _check_disk(self, missing: Sequence[Store]) -> None:
        expected = {CODE: self.cost.bytes - self.cost.features, FEATURES: self.cost.features}
        folder = missing[0].folder.path.parent
        there = sum(path.stat().st_size for store in missing for path in store.folder.path.glob("shard-*.safetensors"))
        needed = int(SPARE * sum(expected[store.tensor] for store in missing)) - there
        free = free_disk(folder)
        if needed > free:
            raise UserError(
                f"{folder}: the cache needs {size(needed)} more and the disk has {size(free)}"
                ": --estimate lists smaller forms, cache.folder puts it elsewhere"
            )

    def _grids(self, images: int, rank: int = 0, processes: int = 1) -> Iterator[Tensor]:
        feed, indices = ImageFeed(self.source, self.space), range(rank, min(images, len(self.source)), processes)
        batches = batches_at(feed, indices, min(BATCH, self.space.piece), self.space.device)
        return (grid for grid in map(feed.features, batches) if grid is not None)

    def _shards(self) -> list[range]:
        """Return the images of each shard."""
        return list(pieces(range(len(self.source)), self.shard_images))

    def _write_share(self, missing: Sequence[Store], fabric: Fabric, console: RunConsole) -> None:
        shards = self._shards()
        for number in range(fabric.global_rank, len(shards), fabric.world_size):
            wanted = [store for store in missing if not _is_there(store, number, shards[number])]
            encoded = self._encode(shards[number], wanted) if wanted else {}
            for store in wanted:
                try:
                    write_shard(store.folder.path, number, shards[number].start, encoded[store.tensor])
                except OSError as error:
                    reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
                    raise RunFailed(
                        f"{store.folder.path}: shard {number + 1} of {len(shards)} could not be written: {reason}; "
                        "the shards before it stay, and the same command continues"
                    ) from None
            if wanted:
                console.say(f"shard {number + 1}/{len(shards)}")

    def _encode(self, images: range, wanted: Sequence[Store]) -> dict[str, dict[str, Tensor]]:
        """Return the tensors of a shard of each store: entry `image * variants + variant`."""
        parts: dict[str, list[Tensor]] = {store.tensor: [] for store in wanted}
        labels: list[int] = []
        variants = self.source.variants
        for indices in pieces(images, BATCH):
            items = [self.source.item(index, variant) for index in indices for variant in range(variants)]
            pixels = torch.stack([image for image, _ in items]).to(self.space.device)
            for name, found in parts.items():
                found.append(self._stored(name, pixels))
            labels += [label for _, label in items[::variants]]
        shared = {KEYS: key_numbers([self.source.key(index) for index in images]), LABELS: torch.tensor(labels)}
        stacked = {name: torch.cat(found).contiguous() for name, found in parts.items()}
        return {name: {key: (shared | stacked)[key] for key in tensors_of(name)} for name in parts}

    def _stored(self, name: str, pixels: Tensor) -> Tensor:
        """Return what a store holds of images `(B, 3, H, W)` uint8."""
        if name == CODE:
            return self.space.tokenizer.store(self.space.code(pixels)).cpu()
        features = self.space.features(pixels)
        assert self.form is not None and features is not None
        return self.form.pack(features).cpu()

    def _finish(self, missing: Sequence[Store]) -> None:
        for store in missing:
            records = [_record(store, number) for number in range(len(self._shards()))]
            notes = self._notes() if store.tensor == FEATURES else {}
            store.folder.finish(store.key, store.folder.record(), records, notes)

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


def _is_there(store: Store, number: int, images: range) -> bool:
    record = finished(store.folder.path, number)
    return record is not None and (record.first, record.images) == (images.start, len(images))


def _record(store: Store, number: int) -> ShardRecord:
    record = finished(store.folder.path, number)
    if record is None:
        raise RunFailed(f"{store.folder.path}: shard {number + 1} is gone; the same command makes it again")
    return record


def _drop_damaged(store: Store, console: RunConsole) -> None:
    """Remove the shards of a whole store that are not as they were written, so that they are made again.

    Raises:
        UserError: the form is damaged, on which all shards depend.
    """
    folder = store.folder
    damaged = folder.damaged()
    if folder.form_state.name in damaged:
        raise UserError(f"{folder.form_state}: damaged (its sha256 is not the recorded one): {remedy(folder.path)}")
    if damaged:
        console.say(f"{relative(folder.path)}: {len(damaged)} damaged shards are made again")
        folder.begin(store.key, folder.record())
        for name in damaged:
            (folder.path / name).unlink(missing_ok=True)


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
