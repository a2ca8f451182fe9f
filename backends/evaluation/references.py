"""What generated images are compared with."""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...components.data.files import name_digest
from ...components.data.source import Source, changed_at
from ...components.messages import first_line
from ...components.moments import Moments
from ..errors import RunFailed
from ..loader import fixed_batches
from ..tensor_files import sha256_of

MOMENTS = {"mu", "sigma"}
IMAGE_MEMBER = "arr_0.npy"

PASSED_AT_ONCE = 2**20
"""Bytes of an archive that are passed over at a time."""


class Reference(Protocol):
    """A set of images, or what is known of their features."""

    def __len__(self) -> int:
        """Return the number of images, 0 if only moments are there."""
        ...

    def images(self, indices: range) -> Tensor:
        """Return images `(N, 3, H, W)` uint8."""
        ...

    def moments(self, extractor: str, width: int) -> Moments | None:
        """Return published moments of an extractor's features, if there are some."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return what tells this reference from others, as JSON values; no image is read for it."""
        ...

    @property
    def side(self) -> tuple[int, int] | None:
        """Height and width of the images, if there are some."""
        ...


class SourceReference:
    """The first images of a data source, as they are without augmentation."""

    def __init__(self, source: Source, count: int, what: dict[str, Any]) -> None:
        self.source, self.count, self.what = source, min(count, len(source)), what

    def __len__(self) -> int:
        return self.count

    @property
    def side(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.source.image_size, self.source.image_size

    def images(self, indices: range) -> Tensor:
        """Read images."""
        return next(fixed_batches(self.source, indices, len(indices)))[0]

    def moments(self, extractor: str, width: int) -> None:
        """Return nothing: they are taken of the images."""
        del extractor, width

    def identity(self) -> dict[str, Any]:
        """Return the source's settings, what lies there, and how many of its images are taken."""
        return {"what": {**self.what, **self._content}, "images": self.count}

    @cached_property
    def _content(self) -> dict[str, str]:
        changed = np.asarray(changed_at(self.source), np.int64)
        return {"fingerprint": self.source.fingerprint(), "changed": _digest_of([changed])}


class NpzReference:
    """A file as ADM and JiT publish them: `arr_0` images `(N, H, W, 3)` uint8; `mu`, `sigma` of Inception's features.

    Of more images than are asked for, as many are drawn, the same ones every time: files are often sorted by class.

    Raises:
        ValueError: it is no such file; one line.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self.names = {Path(name).stem for name in archive.namelist()}
            self.shape, self.offset = self._image_array() if "arr_0" in self.names else ((0, 0, 0, 3), 0)
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from None
        except (EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path}: cannot be read as .npz ({_what_is(path) or error})") from None
        if "arr_0" not in self.names and not self.names >= MOMENTS:
            raise ValueError(f"{path}: has neither images (arr_0) nor moments (mu, sigma)")
        if self.names >= MOMENTS:
            self._given  # noqa: B018 - read now, so that damage is reported before anything is generated
        self.rows = _drawn(self.shape[0], count)
        self._stream: _ImageStream | None = None

    @property
    def side(self) -> tuple[int, int] | None:
        """Height and width of the images, if there are some."""
        return (self.shape[1], self.shape[2]) if self.shape[0] else None

    def _image_array(self) -> tuple[tuple[int, ...], int]:
        with zipfile.ZipFile(self.path) as archive, archive.open(IMAGE_MEMBER) as file:
            try:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, column_major, kind = read(file)
            except ValueError as error:
                raise ValueError(f"{self.path}: arr_0 is no array of numpy ({error})") from None
            if kind != np.uint8 or len(shape) != 4 or shape[3] != 3:
                raise ValueError(f"{self.path}: arr_0 is {kind} {shape}, not uint8 images (N, H, W, 3)")
            if column_major and shape[0] > 1:
                raise ValueError(f"{self.path}: arr_0 is in Fortran order: save numpy.ascontiguousarray of it")
            if not math.prod(shape):
                raise ValueError(f"{self.path}: arr_0 is empty: its shape is {shape}")
            return shape, file.tell()

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, indices: range) -> Tensor:
        """Read images; the file is never in memory whole, and is gone through once if they are asked for in order.

        Raises:
            RunFailed: it is damaged, which shows only where it is.
        """
        try:
            if self._stream is None or indices.start < self._stream.reached:
                self._stream = _ImageStream(self.path, self.offset, self.shape, self.rows)
            pixels = self._stream.read(indices)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            self._stream = None
            raise RunFailed(f"{self.path}: the reference is damaged ({error}); fetch or make it again") from None
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def moments(self, extractor: str, width: int) -> Moments | None:
        """Return `mu` and `sigma`, for Inception's features alone.

        Raises:
            ValueError: they are damaged, or of other features.
        """
        if not self.names >= MOMENTS or extractor != "inception":
            return None
        mean, covariance = map(torch.from_numpy, self._given)
        if mean.shape != (width,) or covariance.shape != (width, width):
            raise ValueError(f"{self.path}: mu is {tuple(mean.shape)}, the extractor's features are {width}")
        return Moments.of(mean, covariance, count=width + 1)

    def identity(self) -> dict[str, Any]:
        """Return the file's name and digest, the number of images, and the digest of moments.

        Images are told by the digest of their pixels, which is known once they have been read.
        """
        from_more = {"drawn from": self.shape[0]} if len(self) < self.shape[0] else {}
        found = {"what": {"file": self.path.name, "sha256": self._digest, **from_more}, "images": len(self)}
        if not self.names >= MOMENTS:
            return found
        return {**found, "moments" if len(self) else "sha256": _digest_of(self._given)}

    @cached_property
    def _digest(self) -> str:
        return sha256_of(self.path)

    @cached_property
    def _given(self) -> tuple[np.ndarray, np.ndarray]:
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                mean, covariance = (np.asarray(arrays[name], np.float64) for name in ("mu", "sigma"))
        except (OSError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{self.path}: mu and sigma cannot be read ({first_line(error)})") from None
        return mean, covariance


class _ImageStream:
    """Reads drawn rows of an array in an archive, forward: compressed data cannot be entered in the middle.

    Attributes:
        reached: the first of the drawn rows that has not been passed.
    """

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], rows: Sequence[int]) -> None:
        self.rows, self.shape, self.reached = rows, shape, 0
        self._archive = zipfile.ZipFile(path)
        self._file = self._archive.open(IMAGE_MEMBER)
        self._pass(offset)
        self._row = 0

    def read(self, indices: range) -> np.ndarray:
        """Return drawn images `(n, H, W, 3)`."""
        each = math.prod(self.shape[1:])
        found = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for place, row in enumerate(self.rows[indices.start : indices.stop]):
            self._pass((row - self._row) * each)
            found[place] = np.frombuffer(self._file.read(each), np.uint8).reshape(self.shape[1:])
            self._row = row + 1
        self.reached = indices.stop
        if indices.stop >= len(self.rows):
            # At its end an archive's member is compared with its checksum.
            self._pass((self.shape[0] - self._row) * each + 1)
            self._archive.close()
        return found

    def _pass(self, count: int) -> None:
        while count > 0 and (piece := self._file.read(min(count, PASSED_AT_ONCE))):
            count -= len(piece)


def _drawn(there: int, count: int) -> list[int]:
    """Return which images are taken, in their order: a fair draw, and of any number the same."""
    if count >= there:
        return list(range(there))
    return sorted(sorted(range(there), key=lambda row: name_digest(str(row)))[:count])


def _digest_of(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _what_is(path: Path) -> str:
    """Return what a file is that is no archive, or is cut off."""
    with path.open("rb") as file:
        begin = file.read(6)
    if not begin:
        return "it is empty"
    if begin == b"\x93NUMPY":
        return "it is a single array (.npy): save it with numpy.savez"
    return "it is cut off" if begin.startswith(b"PK") else "it is no zip archive"
