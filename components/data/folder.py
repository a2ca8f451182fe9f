"""Image files in folders."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np

from ..messages import named, printable
from .classes import Classes, classes_of
from .encoded import EncodedImages
from .files import changed_last, open_regular
from .picture import LARGEST_FILE, check_header
from .settings import FolderSettings

CHECKED_FIRST = 10_000
"""Headers read at the start. Enough to tell a share of 1% unreadable to a tenth of it, seconds even on a network disk;
all 1.28 million of ImageNet would take an hour there."""

STATUS_PART = 1000
"""Files whose size a thread asks for in one go."""

READERS = 16
"""Threads that wait for the disk; network disks answer many questions at once."""


class ImageFolder(EncodedImages):
    """The `folder` source: any tree of image files.

    The headers of the first `CHECKED_FIRST` files, in an order that is as good as random, are read at the start; files
    that are no images are left out, named and counted. Damage beyond them, and damaged pixels, are found when a file is
    read.
    """

    reads_at_once = READERS

    def __init__(self, settings: FolderSettings) -> None:
        self.tree, self.root = settings.tree, settings.folder
        for _, problem in settings.problems():
            raise OSError(problem)
        self.classes = classes_of(self.tree) if settings.labels == "auto" else Classes(())
        for warning in self.classes.warnings:
            warnings.warn(f"{printable(str(self.root))}: {warning}", stacklevel=2)
        strays = set(self.classes.strays)
        found = tuple(path for path in self.tree.images if path not in strays)
        super().__init__(
            settings,
            where=f"below {printable(str(self.root))}",
            found=len(found),
            class_names=tuple(map(printable, self.classes.names)),
        )
        self._class = {name: number for number, name in enumerate(self.classes.names)}
        first, rest = found[:CHECKED_FIRST], found[CHECKED_FIRST:]
        with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(READERS) as pool:
            readable = list(pool.map(self._has_header, first))
        lost = {path for path, good in zip(first, readable, strict=True) if not good}
        self.unreadable = set(map(printable, lost))
        self.paths = [*(path for path in first if path not in lost), *rest]
        self.check_losses(len(first))

    def __len__(self) -> int:
        return len(self.paths)

    def key(self, index: int) -> str:
        """Return a file's path below the root."""
        return printable(self.paths[index])

    def read(self, index: int) -> bytes:
        """Return a file's content."""
        with open_regular(self.root / self.paths[index]) as file:
            return file.read(LARGEST_FILE + 1)

    def label(self, index: int) -> int:
        """Return the number of a file's first sub-folder, 0 for unlabelled images."""
        return self._class[self.paths[index].partition("/")[0]] if self._class else 0

    def contents(self) -> Iterable[str]:
        """Yield every file's path and size."""
        for path, size in zip(self.paths, self._status[:, 0].tolist(), strict=True):
            yield f"{path} {size}"

    def changed(self) -> Sequence[int]:
        """Return when every file was changed last."""
        times: Sequence[int] = self._status[:, 1].tolist()
        return times

    def describe(self) -> str:
        """Return how many images and classes were found, and what else there is."""
        return super().describe() + "".join(f"; {note}" for note in self._notes())

    def _notes(self) -> Iterator[str]:
        tree = self.tree
        if self.classes.empty:
            yield f"no image in {named(self.classes.empty)}"
        if tree.others:
            yield f"other files: {tree.other_files()}"
        if tree.special:
            yield f"pipes, sockets or devices left out: {named(tree.special)}"
        if tree.repeated:
            yield f"links not followed, as their folders are there already: {named(tree.repeated)}"

    @cached_property
    def _status(self) -> np.ndarray:
        """Size and time of change of every file `(n, 2)`, asked for once: there may be a million."""
        parts = [self.paths[start : start + STATUS_PART] for start in range(0, len(self.paths), STATUS_PART)]
        with ThreadPoolExecutor(READERS) as pool:
            found = list(pool.map(lambda part: [self._status_of(path) for path in part], parts))
        return np.array([each for part in found for each in part], np.int64).reshape(-1, 2)

    def _status_of(self, path: str) -> tuple[int, int]:
        try:
            status = (self.root / path).stat()
        except OSError:  # Gone since the folder was searched: a damaged image like others, found when it is read.
            return -1, 0
        return status.st_size, changed_last(status)

    def _has_header(self, path: str) -> bool:
        try:
            with open_regular(self.root / path) as file:
                check_header(file, self.decoding)
        except Exception as error:  # A damaged header fails in many ways, and each of them means the same.
            self._note_reason(printable(path), error)
            return False
        return True
