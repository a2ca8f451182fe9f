"""Images in tar shards."""

from __future__ import annotations

import os
import sys
import warnings
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from ..messages import printable
from .encoded import EncodedImages, warn_of_empty_classes
from .files import changed_last
from .index_cache import cache_folder, kept_index, make_index
from .patterns import expand_all, is_address, local_files
from .picture import LARGEST_FILE
from .remote import fetch, listed, local_copy
from .settings import WebDatasetSettings
from .shard_images import chosen_rows, further_images, shard_names
from .slow_reads import watched
from .tar_index import BAD_LABEL, NO_LABEL, TarIndex

OPEN_FILES = 32
"""Shards that a process holds open: twice the blocks that are mixed in an epoch's order."""

AT_ONCE = 8
"""Shards that are fetched or indexed at a time."""

WORTH_A_WORD = 20
"""Shards whose indexing is announced: about a second each."""

T = TypeVar("T")
R = TypeVar("R")


class OpenFiles:
    """Files that are read at offsets, opened when first needed, the longest unused one closed.

    A process that was forked opens its own: a shared one would have one position for both.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[Path, BinaryIO] = OrderedDict()
        self._process = os.getpid()

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Return `size` bytes of a file from `offset` on, fewer at its end.

        Raises:
            OSError: it cannot be read.
        """
        if self._process != os.getpid():
            self._files, self._process = OrderedDict(), os.getpid()
        with watched(str(path)):
            if path not in self._files:
                self._files[path] = path.open("rb")
                if len(self._files) > OPEN_FILES:
                    self._files.popitem(last=False)[1].close()
            self._files.move_to_end(path)
            file = self._files[path]
            file.seek(offset)
            return file.read(size)

    def __reduce__(self) -> tuple[type[OpenFiles], tuple[()]]:
        # Open files stay in their process.
        return OpenFiles, ()


class WebDataset(EncodedImages):
    """The `webdataset` source: samples of uncompressed tar shards, read at their places, in the shards' order.

    Shards behind addresses are fetched whole at the start. The headers of every shard are read once and kept as an
    index; a shard that is cut off is found then.

    Attributes:
        blocks: images in each shard.
    """

    def __init__(self, settings: WebDatasetSettings) -> None:
        self.cache = cache_folder(settings.cache)
        self.shards, fetched = _shards(settings, self.cache)
        indexes = _indexes(self.shards, self.cache)
        self.names = shard_names(self.shards)
        wanted = None if settings.image is None else settings.image.lstrip(".").lower()
        rows = [chosen_rows(index, name, wanted) for index, name in zip(indexes, self.names, strict=True)]
        self.blocks: Sequence[int] = tuple(map(len, rows))
        self._ends = list(accumulate(self.blocks))
        self.where = f"in {_count(len(self.shards))} ({', '.join(settings.shards)})"
        self._check_extensions(indexes, wanted)
        taken = list(zip(indexes, rows, strict=True))
        self._keys = [index.keys[row] for index, of_shard in taken for row in of_shard]
        self._offsets = np.concatenate([np.array(index.offsets, np.int64)[of_shard] for index, of_shard in taken])
        self._sizes = np.concatenate([np.array(index.sizes, np.int64)[of_shard] for index, of_shard in taken])
        labels = np.concatenate([np.array(index.labels, np.int64)[of_shard] for index, of_shard in taken])
        classes = self._classes(labels) if settings.labels == "auto" else 0
        names = tuple(str(number) for number in range(classes))
        super().__init__(settings, where=self.where, found=len(self._keys), class_names=names)
        self._labels = labels if classes else np.zeros_like(labels)
        self._fetched = fetched
        self._without_image = sum(index.without_image + len({*index.keys}) - len(of_shard) for index, of_shard in taken)
        self._files = OpenFiles()
        self._warn_of_unread_bytes(indexes)
        self._warn_of_sorted_labels()

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        """Return a sample's shard (with its folder only where names do not tell shards apart) and name."""
        return printable(f"{self.names[bisect_right(self._ends, index)]}/{self._keys[index]}")

    def read(self, index: int) -> bytes:
        """Return the bytes of an image.

        Raises:
            ValueError: it is too large, or the shard ends before it does.
        """
        size = int(self._sizes[index])
        if size > LARGEST_FILE:
            raise ValueError(f"{size:,} bytes")
        encoded = self._files.read(self._shard(index), int(self._offsets[index]), size)
        if len(encoded) < size:
            raise ValueError("the shard is shorter than it was")
        return encoded

    def label(self, index: int) -> int:
        """Return a sample's class, 0 for unlabelled images."""
        return int(self._labels[index])

    def contents(self) -> Iterable[str]:
        """Yield every image's shard, name, size and place."""
        places = zip(self._sizes.tolist(), self._offsets.tolist(), self._labels.tolist(), strict=True)
        return (f"{self.key(index)} {place}" for index, place in enumerate(places))

    def changed(self) -> Sequence[int]:
        """Return when every shard was changed last."""
        return [changed_last(shard.stat()) for shard in self.shards]

    def describe(self) -> str:
        """Return how many images and classes were found, what was fetched, and what was left out."""
        fetched = f", {_count(self._fetched)} fetched to {self.cache}" if self._fetched else ""
        without = f", {self._without_image:,} samples without an image" if self._without_image else ""
        return super().describe() + fetched + without

    def _shard(self, index: int) -> Path:
        return self.shards[bisect_right(self._ends, index)]

    def _classes(self, labels: np.ndarray) -> int:
        """Return the number of classes: the largest label and one, 0 if no image has a label."""
        problems = {BAD_LABEL: "is no class (a whole number from 0 on is needed)", NO_LABEL: "is missing"}
        for code, problem in problems.items():
            wrong = np.flatnonzero(labels == code)
            if len(wrong) and (code == BAD_LABEL or len(wrong) < len(labels)):
                raise ValueError(
                    f"the label of {self.key(int(wrong[0]))} {problem}, as {len(wrong):,} of {len(labels):,} "
                    f"{self.where}; mend them, or take the images without: data.labels=none"
                )
        if labels.max() >= 0:
            warn_of_empty_classes(labels, int(labels.max()) + 1, self.where)
        return int(labels.max()) + 1

    def _check_extensions(self, indexes: Sequence[TarIndex], wanted: str | None) -> None:
        """Refuse shards without an image, and warn of images that are taken for further ones of samples."""
        further = further_images(indexes) if wanted is None else ""
        if not self._ends[-1]:
            kind = "(.jpg, .png, .webp, ...)" if wanted is None else f"with the extension .{wanted}"
            there = f": there are {further}, to be named by data.image" if further else ""
            raise ValueError(f"no image {kind} {self.where}{there}")
        if further:
            warnings.warn(
                f"data.shards: images with a further dot in their names {self.where} are not read ({further}), as "
                "files of a sample share the name up to its first dot: rename them, or name the extension that is "
                "meant: data.image",
                stacklevel=3,
            )

    def _warn_of_unread_bytes(self, indexes: Sequence[TarIndex]) -> None:
        for name, index in zip(self.names, indexes, strict=True):
            if index.unread:
                behind = f"{index.unread:,} bytes behind its end mark are no tar archive and are not read"
                warnings.warn(f"data.shards: {name}: {behind}", stacklevel=3)

    def _warn_of_sorted_labels(self) -> None:
        """Warn of shards that are sorted by class: statistics and references are taken from the first images."""
        present, first = len(np.unique(self._labels)), self._labels[: len(self) // 4]
        # With 4 images a class, fewer than half of the classes among the first quarter is no accident.
        if self.num_classes > 1 and len(first) >= 4 * present and 2 * (seen := len(np.unique(first))) <= present:
            warnings.warn(
                f"data.shards: the first quarter of the images {self.where} shows {seen:,} of {present:,} classes, and "
                "statistics and references are taken from the first images: write the shards in random order",
                stacklevel=2,
            )


def _shards(settings: WebDatasetSettings, cache: Path) -> tuple[list[Path], int]:
    """Return the shards as files of this machine, in the recipe's order, and how many are copies."""
    places: list[Path | str] = []
    for name in expand_all(settings.shards):
        found = listed(name) if is_address(name) else local_files(name)
        if not found:
            raise FileNotFoundError(f"there is no file {name}")
        places += found
    twice = [place for place, times in Counter(places).items() if times > 1]
    if twice:
        raise ValueError(f"{twice[0]} is named twice, as {len(twice):,} of {len(set(places)):,}: mend data.shards")
    addresses = [place for place in places if isinstance(place, str)]
    folder = cache / "shards"
    missing = [address for address in addresses if not local_copy(address, folder).is_file()]
    if missing:
        sys.stderr.write(f"fetching {_count(len(missing))} to {folder}\n")
    copies = dict(zip(addresses, _at_once(lambda address: fetch(address, folder), addresses), strict=True))
    return [copies[place] if isinstance(place, str) else place for place in places], len(addresses)


def _indexes(shards: Sequence[Path], cache: Path) -> list[TarIndex]:
    indexes = {shard: kept_index(shard, cache) for shard in shards}
    missing = [shard for shard, index in indexes.items() if index is None]
    if len(missing) >= WORTH_A_WORD:
        sys.stderr.write(f"indexing {_count(len(missing))}, once\n")
    made = dict(zip(missing, _at_once(lambda shard: make_index(shard, cache), missing), strict=True))
    return [indexes[shard] or made[shard] for shard in shards]


def _at_once(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return the results for all items; after the first failure nothing new is begun."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            return list(pool.map(work, items))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _count(shards: int) -> str:
    return f"{shards:,} shard" + ("s" if shards != 1 else "")
