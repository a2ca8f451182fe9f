"""Where the images of a tar shard lie, found by reading its headers once.

Nothing is unpacked: the names of members are only names, and an image is bytes at an offset.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ..messages import printable
from ..system_names import is_system_name
from .formats import suffixes
from .slow_reads import watched

NO_LABEL, BAD_LABEL = -1, -2
LARGEST_LABEL = 999_999
LARGEST_TEXT = 2**20
"""Bytes of the largest `.cls` or `.json` that is looked into."""

ZEROS_AT_ONCE = 2**20
"""Bytes that are read at a time behind an end mark; whole blocks."""


@dataclass
class TarIndex:
    """The images of a shard, in the shard's order of samples.

    Attributes:
        keys: names of their samples: the members' names up to the first dot of the file's name.
        extensions: what follows that dot, in lower case; `depth.png`, say, beside `jpg`.
        offsets: where in the file each image begins, bytes.
        sizes: bytes of each image.
        labels: class of each sample, or `NO_LABEL`, or `BAD_LABEL` where there is one that is not a class.
        without_image: samples that have files, and no image among them.
        unread: bytes behind an end mark that are no archive.
    """

    keys: list[str] = field(default_factory=list)
    extensions: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    without_image: int = 0
    unread: int = 0

    def dumps(self) -> str:
        """Return the index as JSON."""
        return json.dumps(vars(self))

    @classmethod
    def loads(cls, text: str) -> TarIndex:
        """Return an index from its JSON.

        Raises:
            ValueError: it is none.
        """
        try:
            index = cls(**json.loads(text))
            names, numbers = (index.keys, index.extensions), (index.offsets, index.sizes, index.labels)
            good = all(isinstance(name, str) for each in names for name in each)
            good = good and isinstance(index.without_image, int) and isinstance(index.unread, int)
            good = good and all(len(each) == len(index.keys) for each in (*names, *numbers))
            good = good and all(type(number) is int and number >= BAD_LABEL for each in numbers for number in each)
        except (TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None
        if not good:
            raise ValueError("not an index")
        return index


@dataclass
class _Sample:
    images: dict[str, tuple[int, int]] = field(default_factory=dict)
    label: int = NO_LABEL
    labelled_by: dict[str, int] = field(default_factory=dict)


class _TwiceError(Exception):
    """A name that is in a shard twice; the message says where."""


def scan(path: Path) -> TarIndex:
    """Return the index of an uncompressed tar file, or of several that were written behind each other.

    Files of one sample share the name up to the first dot, wherever they lie in the shard. Folders, links and the like
    are passed over, and what systems leave (see `system_names`).

    Raises:
        ValueError: it is compressed, no tar file, cut off, or has a name twice; the message names it.
        OSError: it cannot be read.
    """
    samples: dict[str, _Sample] = {}
    index = TarIndex()
    with watched(str(path)), path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            raise ValueError(f"{path}: is compressed; only plain .tar shards can be read at any place: gunzip it")
        length = file.seek(0, 2)
        try:
            index.unread = _read_archives(file, length, samples)
        except _TwiceError as error:
            raise ValueError(f"{path}: {error}; write it again with every name once") from None
        except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as error:
            raise ValueError(f"{path}: cut off or damaged ({error}); write or fetch it again") from None
    for key, sample in samples.items():
        index.without_image += not sample.images
        for extension, (offset, size) in sample.images.items():
            index.keys.append(key)
            index.extensions.append(extension)
            index.offsets.append(offset)
            index.sizes.append(size)
            index.labels.append(sample.label)
    return index


def _read_archives(file: BinaryIO, length: int, samples: dict[str, _Sample]) -> int:
    """Read archives that lie behind each other; return how many bytes at the end are none."""
    start: int | None = 0
    while start is not None:
        file.seek(start)
        tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - closing it does nothing to the file
        if start and tar.firstmember is None:  # type: ignore[attr-defined]
            return length - start
        _read_members(tar, file, length, samples)
        start = _behind_zeros(file, tar.offset)
    return 0


def _behind_zeros(file: BinaryIO, offset: int) -> int | None:
    """Return the first block from an offset on that is not all zeros, None if there is none."""
    file.seek(offset)
    while piece := file.read(ZEROS_AT_ONCE):
        if content := piece.lstrip(b"\0"):
            zeros = len(piece) - len(content)
            return offset + zeros // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
        offset += len(piece)
    return None


def _read_members(tar: tarfile.TarFile, file: BinaryIO, length: int, samples: dict[str, _Sample]) -> None:
    reached = -1
    while (member := tar.next()) is not None:
        # The library keeps every header; a shard may have a million.
        tar.members.clear()  # type: ignore[attr-defined]
        if member.size < 0 or member.offset <= reached or member.offset_data + member.size > length:
            raise ValueError(f"an impossible member at byte {member.offset}")
        reached = member.offset
        if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and member.sparse is None:
            _note(member, file, samples)
    # The library takes any block that is no header for the end; only one of zeros is.
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError(f"no end mark at byte {tar.offset}")


def _note(member: tarfile.TarInfo, file: BinaryIO, samples: dict[str, _Sample]) -> None:
    path = member.name.removeprefix("./")
    folder, slash, name = path.rpartition("/")
    stem, _, extension = name.partition(".")
    parents = (part for part in folder.split("/") if part not in (".", ".."))
    if not stem or is_system_name(name) or any(map(is_system_name, parents)):
        return
    sample = samples.setdefault(f"{folder}{slash}{stem}", _Sample())
    extension = extension.lower()
    if f".{extension.rpartition('.')[2]}" in suffixes():
        _once(path, sample.images.get(extension, (None,))[0], member.offset_data)
        sample.images[extension] = (member.offset_data, member.size)
    elif extension in ("cls", "json"):
        _once(path, sample.labelled_by.get(extension), member.offset_data)
        sample.labelled_by[extension] = member.offset_data
        if extension == "cls":
            sample.label = _class_of(_text(member, file))
        elif "cls" not in sample.labelled_by:
            sample.label = _label_in(_text(member, file))


def _once(name: str, first: int | None, second: int) -> None:
    if first is not None:
        raise _TwiceError(f"{printable(name)} is there twice, at bytes {first:,} and {second:,}")


def _text(member: tarfile.TarInfo, file: BinaryIO) -> bytes | None:
    if member.size > LARGEST_TEXT:
        return None
    file.seek(member.offset_data)
    return file.read(member.size)


def _class_of(text: bytes | None) -> int:
    digits = (text or b"").strip()
    return int(digits) if digits.isdigit() and len(digits) <= len(str(LARGEST_LABEL)) else BAD_LABEL


def _label_in(text: bytes | None) -> int:
    try:
        values = json.loads(text or b"")
    except (ValueError, RecursionError):
        return BAD_LABEL
    if not isinstance(values, dict) or "label" not in values:
        return NO_LABEL
    label = values["label"]
    return label if type(label) is int and 0 <= label <= LARGEST_LABEL else BAD_LABEL
