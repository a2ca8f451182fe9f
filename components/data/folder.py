"""Image files in folders."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from .crop import check_area
from .encoded import LARGEST_FILE, EncodedImages
from .files import class_names
from .settings import FolderSettings

CHECKED_FIRST = 10_000
"""Headers read at the start. Enough to tell a share of 1% unreadable to a tenth of it, seconds even on a network disk;
all 1.28 million of ImageNet would take an hour there."""

READERS = 16
"""Threads that wait for the disk; network disks answer many questions at once."""


class ImageFolder(EncodedImages):
    """The `folder` source: any tree of image files.

    The headers of the first `CHECKED_FIRST` files, in an order that is as good as random, are read at the start; files
    that are no images are left out, named and counted. Damage beyond them, and damaged pixels, are found when a file is
    read.
    """

    def __init__(self, settings: FolderSettings) -> None:
        found = settings.images
        self.root = settings.folder
        if not found:
            raise FileNotFoundError(f"no image file below {self.root}")
        classes = class_names(found) if settings.labels == "auto" else ()
        super().__init__(settings, where=f"below {self.root}", found=len(found), class_names=classes)
        self._class = {name: number for number, name in enumerate(classes)}
        first, rest = found[:CHECKED_FIRST], found[CHECKED_FIRST:]
        with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(READERS) as pool:
            readable = list(pool.map(self._has_header, first))
        self.unreadable = {path for path, good in zip(first, readable, strict=True) if not good}
        self.paths = [*(path for path in first if path not in self.unreadable), *rest]
        self.check_losses(len(first))

    def __len__(self) -> int:
        return len(self.paths)

    def key(self, index: int) -> str:
        """Return a file's path below the root."""
        return self.paths[index]

    def read(self, index: int) -> bytes:
        """Return a file's content."""
        with (self.root / self.paths[index]).open("rb") as file:
            return file.read(LARGEST_FILE + 1)

    def label(self, index: int) -> int:
        """Return the number of a file's first sub-folder, 0 for unlabelled images."""
        return self._class[self.paths[index].partition("/")[0]] if self._class else 0

    def contents(self) -> Iterable[str]:
        """Yield every file's path and size.

        A file replaced by another of the same name and size goes unnoticed: reading them all would take too long.
        """
        with ThreadPoolExecutor(READERS) as pool:
            sizes = pool.map(lambda path: (self.root / path).stat().st_size, self.paths, chunksize=1000)
            for path, size in zip(self.paths, sizes, strict=True):
                yield f"{path} {size}"

    def _has_header(self, path: str) -> bool:
        try:
            with Image.open(self.root / path) as file:
                check_area(*file.size)
        except Exception:  # A damaged header fails in many ways, and each of them means the same.
            return False
        return True
