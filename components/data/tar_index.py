"""Where the images of a tar shard lie, found by reading its headers once.

Nothing is unpacked: the names of members are only names, and an image is bytes at an offset.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
NO_LABEL, BAD_LABEL = -1, -2
LARGEST_LABEL = 999_999
LARGEST_TEXT = 2**20
"""Bytes of the largest `.cls` or `.json` that is looked into."""


@dataclass
class TarIndex:
    """The samples of a shard that have an image, in the shard's order.

    Attributes:
        keys: names of the samples: the members' names up to the first dot of the file's name.
        offsets: where in the file each image begins, bytes.
        sizes: bytes of each image.
        labels: class of each sample, or `NO_LABEL`, or `BAD_LABEL` where there is one that is not a class.
        without_image: samples that have files, and no image among them.
    """

    keys: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    without_image: int = 0

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
            lists = (index.offsets, index.sizes, index.labels)
            good = all(isinstance(key, str) for key in index.keys) and isinstance(index.without_image, int)
            good = good and all(len(each) == len(index.keys) for each in lists)
            good = good and all(type(number) is int and number >= BAD_LABEL for each in lists for number in each)
        except (TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None
        if not good:
            raise ValueError("not an index")
        return index


@dataclass
class _Sample:
    image: tuple[int, int] | None = None
    label: int = NO_LABEL


def scan(path: Path) -> TarIndex:
    """Return the index of an uncompressed tar file.

    Files of one sample share the name up to the first dot, wherever they lie in the shard. Folders, links and the like
    are passed over.

    Raises:
        ValueError: it is compressed, no tar file, or cut off; the message names it.
        OSError: it cannot be read.
    """
    samples: dict[str, _Sample] = {}
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            raise ValueError(f"{path}: is compressed; only plain .tar shards can be read at any place: gunzip it")
        length = file.seek(0, 2)
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                _read_members(tar, file, length, samples)
        except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as error:
            raise ValueError(f"{path}: cut off or damaged ({error}); write or fetch it again") from None
    index = TarIndex()
    for key, sample in samples.items():
        if sample.image is None:
            index.without_image += 1
            continue
        index.keys.append(key)
        index.offsets.append(sample.image[0])
        index.sizes.append(sample.image[1])
        index.labels.append(sample.label)
    return index


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
    folder, slash, name = member.name.rpartition("/")
    stem, _, extension = name.partition(".")
    if not stem:
        return
    sample = samples.setdefault(f"{folder}{slash}{stem}", _Sample())
    extension = extension.lower()
    if extension in IMAGE_EXTENSIONS:
        sample.image = (member.offset_data, member.size)
    elif extension == "cls":
        sample.label = _class_of(_text(member, file))
    elif extension == "json" and sample.label == NO_LABEL:
        sample.label = _label_in(_text(member, file))


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
