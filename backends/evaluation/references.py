"""What generated images are compared with."""

from __future__ import annotations

import math
import zipfile
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...components.data.source import Source
from ...components.moments import Moments
from ..errors import RunFailed
from ..loader import fixed_batches
from ..tensor_files import sha256_of


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


class SourceReference:
    """The first images of a data source, as they are without augmentation."""

    def __init__(self, source: Source, count: int, what: dict[str, Any]) -> None:
        self.source, self.count, self.what = source, min(count, len(source)), what

    def __len__(self) -> int:
        return self.count

    def images(self, indices: range) -> Tensor:
        """Read images."""
        return next(fixed_batches(self.source, indices, len(indices)))[0]

    def moments(self, extractor: str, width: int) -> None:
        """Return nothing: they are taken of the images."""
        del extractor, width

    def identity(self) -> dict[str, Any]:
        """Return the source's settings, what lies there, and how many of its images are taken."""
        return {"what": {**self.what, "fingerprint": self._fingerprint}, "images": self.count}

    @cached_property
    def _fingerprint(self) -> str:
        return self.source.fingerprint()


class NpzReference:
    """A file as ADM and JiT publish them: `arr_0` images `(N, H, W, 3)` uint8; `mu`, `sigma` of Inception's features.

    Raises:
        ValueError: it is no such file; one line.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self.names = {Path(name).stem for name in archive.namelist()}
            self.shape, self.offset = self._image_array() if "arr_0" in self.names else ((0, 0, 0, 3), 0)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path}: cannot be read as .npz ({error})") from None
        if "arr_0" not in self.names and not {"mu", "sigma"} <= self.names:
            raise ValueError(f"{path}: has neither images (arr_0) nor moments (mu, sigma)")
        self.count = min(count, self.shape[0])

    def _image_array(self) -> tuple[tuple[int, ...], int]:
        with zipfile.ZipFile(self.path) as archive, archive.open("arr_0.npy") as file:
            try:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, column_major, kind = read(file)
            except ValueError as error:
                raise ValueError(f"{self.path}: arr_0 is no array of numpy ({error})") from None
            if kind != np.uint8 or len(shape) != 4 or shape[3] != 3 or column_major:
                raise ValueError(f"{self.path}: arr_0 is {kind} {shape}, not uint8 images (N, H, W, 3)")
            return shape, file.tell()

    def __len__(self) -> int:
        return self.count

    def images(self, indices: range) -> Tensor:
        """Read images; the file is never read whole.

        Raises:
            RunFailed: it is damaged, which shows only where it is.
        """
        each = math.prod(self.shape[1:])
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open("arr_0.npy") as file:
                file.seek(self.offset + indices.start * each)
                found = np.frombuffer(file.read(len(indices) * each), np.uint8)
            pixels = found.reshape(len(indices), *self.shape[1:])
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise RunFailed(f"{self.path}: the reference is damaged ({error}); fetch or make it again") from None
        return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2)

    def moments(self, extractor: str, width: int) -> Moments | None:
        """Return `mu` and `sigma`, for Inception's features alone."""
        if not {"mu", "sigma"} <= self.names or extractor != "inception":
            return None
        with np.load(self.path, allow_pickle=False) as arrays:
            mean, covariance = (torch.from_numpy(np.asarray(arrays[name], np.float64)) for name in ("mu", "sigma"))
        if mean.shape != (width,) or covariance.shape != (width, width):
            raise ValueError(f"{self.path}: mu is {tuple(mean.shape)}, the extractor's features are {width}")
        return Moments.of(mean, covariance, count=width + 1)

    def identity(self) -> dict[str, Any]:
        """Return the file's name, digest and number of images."""
        return {"what": self.path.name, "images": self.count, "sha256": self._digest}

    @cached_property
    def _digest(self) -> str:
        return sha256_of(self.path)
