"""What a source held when something was made of it, and whether it still holds the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
from pydantic import TypeAdapter, ValidationError

from .source import Source, changed_at, encoded_bytes, reads_at_once

SAMPLED_BYTES, SAMPLED_IMAGES = 256 * 2**20, 2**16
"""At most so much of a data set is read to tell its contents: all of a small one (about a second), an even sample of a
large one. ImageNet, of 110 kB an image, has 2,400 images read."""

READ_TOGETHER = 64
"""Images that a thread reads, one after another, in one go."""

SHOWN_CLASSES = 5


@dataclass(frozen=True)
class SourceRecord:
    """What tells a data set from another, wherever it lies.

    Attributes:
        place: where it lay when this was noted, in words, for people.
        images: number of images.
        classes: a name for each class, empty for unlabelled images.
        names: digest of the images' names, in order.
        fingerprint: the source's own digest of sizes, labels, and how images are prepared.
        changed: digest of the times at which its files were changed last; empty where it has no files.
        newest: the latest of these times, nanoseconds.
        sampled: number of images, evenly spread, whose contents are in `contents`; none where there are no files, whose
            times would tell when contents have to be looked at.
        contents: digest of the encoded bytes of these images.
    """

    place: str
    images: int
    classes: tuple[str, ...]
    names: str
    fingerprint: str
    changed: str
    newest: int
    sampled: int
    contents: str

    @classmethod
    def of(cls, source: Source) -> Self:
        """Note what a source holds; a sample of its images is read, if they lie in files."""
        glance = cls.glance(source)
        if not glance.changed:
            return glance
        sampled = _sample_size(source)
        return replace(glance, sampled=sampled, contents=_contents(source, sampled))

    @classmethod
    def glance(cls, source: Source) -> Self:
        """Note what a source holds without the contents of its images."""
        times = np.asarray(changed_at(source), np.int64)
        return cls(
            place=str(getattr(source, "where", "")),
            images=len(source),
            classes=tuple(source.class_names),
            names=_digest(source.key(index).encode("utf-8", "surrogateescape") for index in range(len(source))),
            fingerprint=source.fingerprint(),
            changed=_digest([times.tobytes()]) if len(times) else "",
            newest=int(times.max()) if len(times) else 0,
            sampled=0,
            contents="",
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return a record from its values.

        Raises:
            ValueError: they are those of no record.
        """
        try:
            record: Self = TypeAdapter(cls).validate_python(dict(values))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from None
        return record

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {**asdict(self), "classes": list(self.classes)}

    def identity(self) -> dict[str, Any]:
        """Return what can be told of the data without their contents and times, as JSON values."""
        return {"images": self.images, "names": self.names, "fingerprint": self.fingerprint}

    def compare(self, source: Source) -> tuple[list[str], Self]:
        """Return what differs between then and now, and the record as it has to be kept.

        Where every file's time of change is the same, contents are not read. Files of another time, as those of a copy
        are, are the same if the sample's contents are; in a data set that is larger than the sample, all have to be of
        another time, for a few that were changed are probably not in it.
        """
        now = self.glance(source)
        found = list(_unlike(self, now))
        if found or now.changed == self.changed:
            return found, replace(self, place=now.place)
        now = replace(now, sampled=self.sampled, contents=_contents(source, self.sampled))
        if now.contents != self.contents:
            return ["images were changed in place: their contents differ, names and sizes are the same"], self
        later = sum(time > self.newest for time in changed_at(source))
        if self.sampled < self.images and 0 < later < len(changed_at(source)):
            return [f"{later:,} files were changed after this was noted"], self
        return [], now


def _unlike(old: SourceRecord, new: SourceRecord) -> Iterator[str]:
    if old.images != new.images:
        yield f"images: {old.images:,} -> {new.images:,}"
    if old.classes != new.classes:
        yield f"classes: {shown_classes(old.classes)} -> {shown_classes(new.classes)}"
    if old.names != new.names and old.images == new.images:
        yield "names of images"
    if old.fingerprint != new.fingerprint and old.names == new.names and old.classes == new.classes:
        yield "sizes or labels of images, or the way in which they are prepared"


def shown_classes(names: Sequence[str]) -> str:
    """Return the names of classes, the first ones of many, and how many there are."""
    if not names:
        return "none"
    more = f", ... ({len(names):,})" if len(names) > SHOWN_CLASSES else ""
    return ", ".join(names[:SHOWN_CLASSES]) + more


def _sample_size(source: Source) -> int:
    """Return how many images the sample has, from the mean size of the first ones."""
    first = range(min(64, len(source)))
    mean = max(1, sum(len(encoded_bytes(source, index)) for index in first) // max(1, len(first)))
    return min(len(source), SAMPLED_IMAGES, max(1, SAMPLED_BYTES // mean))


def _contents(source: Source, sampled: int) -> str:
    """Return the digest of an even sample's contents."""
    count = len(source)
    places = [number * count // sampled for number in range(min(sampled, count))]
    parts = [places[start : start + READ_TOGETHER] for start in range(0, len(places), READ_TOGETHER)]
    with ThreadPoolExecutor(reads_at_once(source)) as pool:
        return _digest(pool.map(partial(_digests, source), parts))


def _digests(source: Source, indices: Sequence[int]) -> bytes:
    return b"".join(hashlib.blake2b(encoded_bytes(source, index), digest_size=16).digest() for index in indices)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
