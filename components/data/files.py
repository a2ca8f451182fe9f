"""Image files below a folder, and the classes that their first sub-folders name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path, PurePath

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


def name_digest(name: str) -> bytes:
    """Return a digest by which names are put in an order that has nothing to do with what they say."""
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def find_images(root: Path) -> tuple[str, ...]:
    """Return the image files below `root`, relative to it with `/`, in the order of `name_digest`.

    The order is the same everywhere, and any first n images are a fair draw of all classes: statistics and references
    are taken from the first ones.
    """
    found: list[str] = []
    for folder, _, names in os.walk(root, followlinks=True):
        images = [name for name in names if PurePath(name).suffix.lower() in IMAGE_SUFFIXES]
        if images:
            # Once a folder, not once a file: there may be a million.
            below = Path(folder).relative_to(root).as_posix()
            found += images if below == "." else [f"{below}/{name}" for name in images]
    # Sorted twice, because comparing pairs of digest and name takes several times as long.
    return tuple(sorted(sorted(found), key=name_digest))


def changed_last(status: os.stat_result) -> int:
    """Return when a file was changed last, nanoseconds: its contents, or its name, owner or mode.

    A file that is put in another's place may bring an old time of its contents along; that of its entry is new.
    """
    return max(status.st_mtime_ns, status.st_ctime_ns)


def class_names(images: Iterable[str]) -> tuple[str, ...]:
    """Return the sorted first sub-folders, or nothing when an image lies in `root` itself."""
    folders = set()
    for image in images:
        folder, inside, _ = image.partition("/")
        if not inside:
            return ()
        folders.add(folder)
    return tuple(sorted(folders))
