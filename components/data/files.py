"""Image files below a folder: which there are, and reading them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ..messages import named, printable
from ..system_names import is_system_name
from .formats import suffixes
from .slow_reads import watched


def name_digest(name: str) -> bytes:
    """Return a digest by which names are put in an order that has nothing to do with what they say."""
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


class NotRegular(ValueError):  # noqa: N818
    """A pipe, a socket or a device where a file should be."""


@dataclass(frozen=True)
class Tree:
    """What lies below a folder; paths are relative to it, with `/`.

    Hidden files and folders and those of systems are not in it (see `system_names`).

    Attributes:
        images: files with the ending of a picture, in the order of `name_digest`.
        folders: sub-folders of the first level, sorted.
        others: number of other files, by their ending.
        special: what has the ending of a picture, and is a pipe, a socket or a device.
        repeated: links to folders that are there already, or that the folder itself lies in; they are not followed.
        problems: a line for every folder that cannot be read.
    """

    images: tuple[str, ...]
    folders: tuple[str, ...] = ()
    others: Mapping[str, int] = field(default_factory=dict)
    special: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def other_files(self) -> str:
        """Return how many other files there are of each kind, most first."""
        return named([f"{count:,} {ending or 'without an ending'}" for ending, count in self.others.items()])


def find_images(root: Path) -> Tree:
    """Return what lies below `root`; links to folders are followed, every folder once.

    The order of the images is the same everywhere, and any first n of them are a fair draw of all classes: statistics
    and references are taken from the first ones.
    """
    walk = _Walk(root)
    walk.run()
    return Tree(
        # Sorted twice, because comparing pairs of digest and name takes several times as long.
        images=tuple(sorted(sorted(walk.images), key=name_digest)),
        folders=tuple(sorted(walk.folders)),
        others=dict(sorted(walk.others.items(), key=lambda kind: (-kind[1], kind[0]))),
        special=tuple(sorted(walk.special)),
        repeated=tuple(sorted(walk.repeated)),
        problems=tuple(walk.problems),
    )


class _Walk:
    """Goes through a tree of folders: what lies there itself before what links lead to."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.images: list[str] = []
        self.folders: list[str] = []
        self.others: Counter[str] = Counter()
        self.special: list[str] = []
        self.repeated: list[str] = []
        self.problems: list[str] = []
        self._waiting, self._links, self._endings = [""], list[str](), suffixes()
        # A link to a folder that the root lies in would lead back here, past everything beside it.
        self._seen = {_place(str(parent)) for parent in Path(os.path.realpath(root)).parents}

    def run(self) -> None:
        """Visit every folder."""
        while self._waiting or self._links:
            self._links.sort(reverse=True)
            below = self._waiting.pop() if self._waiting else self._links.pop()
            path = f"{self.root}/{below}" if below else self.root
            try:
                with watched(path):
                    self._visit(path, below)
            except OSError as error:
                self.problems.append(f"the folder {printable(path)} cannot be read: {error.strerror or error}")

    def _visit(self, path: str, below: str) -> None:
        place = _place(path)
        if place in self._seen:
            self.repeated.append(below)
            return
        self._seen.add(place)
        if below and "/" not in below:
            self.folders.append(below)
        prefix = f"{below}/" if below else ""
        with os.scandir(path) as entries:
            for entry in entries:
                if not is_system_name(entry.name):
                    self._note(entry, prefix + entry.name)

    def _note(self, entry: os.DirEntry[str], path: str) -> None:
        if _answers(entry.is_dir):
            (self._links if entry.is_symlink() else self._waiting).append(path)
            return
        ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - there may be a million of them
        if ending not in self._endings:
            self.others[ending] += 1
        elif _answers(entry.is_file) or not os.path.exists(entry.path):  # noqa: PTH110 - a broken link is a damaged image
            self.images.append(path)
        else:
            self.special.append(path)


def _answers(question: Callable[[], bool]) -> bool:
    """Return what a file system says, `False` if it is of a link that leads nowhere."""
    try:
        return question()
    except OSError:
        return False


def _place(path: str) -> tuple[int, int] | str:
    """Return what tells a folder from all others."""
    status = os.stat(path)  # noqa: PTH116
    # Some network file systems number nothing.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be read; what is no regular file is neither waited for nor read, and slow reads are reported.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is a pipe, a socket or a device.
    """
    with watched(str(path)):
        # Without O_NONBLOCK a pipe is waited for until somebody writes to it.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(number, "rb") as file:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise NotRegular(f"{printable(str(path))}: is not a regular file")
            yield file


def changed_last(status: os.stat_result) -> int:
    """Return when a file was changed last, nanoseconds: its contents, or its name, owner or mode.

    A file that is put in another's place may bring an old time of its contents along; that of its entry is new.
    """
    return max(status.st_mtime_ns, status.st_ctime_ns)
