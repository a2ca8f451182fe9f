"""Image files in folders."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .files import class_names
from .settings import FolderSettings

NAMED = 5


class UnreadableImages(ValueError):  # noqa: N818
    """Too many files of a folder cannot be read; the message names some."""


class ImageFolder:
    """The `folder` source: short edge resized, centre cropped, mirrored by the augmentation seed.

    Every file's header is read once at the start; files that are no images are left out, named and counted. A file
    whose pixels turn out to be damaged later is replaced by the next readable one, named, and counts too.
    """

    def __init__(self, settings: FolderSettings) -> None:
        self.settings, self.root = settings, settings.folder
        self.image_size = settings.side
        found = settings.images
        if not found:
            raise FileNotFoundError(f"no image file below {self.root}")
        self.class_names = class_names(found) if settings.labels == "auto" else ()
        self.num_classes = len(self.class_names)
        self.found = len(found)
        self.unreadable: list[Path] = []
        self.paths = [path for path in found if self._has_header(path)]
        self.variants = 2 if settings.flip else 1
        self._check_losses()

    def __len__(self) -> int:
        return len(self.paths)

    def item(self, index: int, seed: int) -> tuple[Tensor, int]:
        """Return image `(3, size, size)` uint8 and label; an odd seed mirrors, if flips are on."""
        for offset in range(len(self.paths)):
            path = self.paths[(index + offset) % len(self.paths)]
            try:
                pixels = self._pixels(path)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                self._lose(path)
                continue
            if self.settings.flip and seed % 2:
                pixels = pixels[:, ::-1]
            image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
            return image, self.class_names.index(path.parts[0]) if self.class_names else 0
        raise UnreadableImages(f"no readable image left below {self.root}")

    def key(self, index: int) -> str:
        """Return a file's path below the root."""
        return self.paths[index].as_posix()

    def fingerprint(self) -> str:
        """Return a digest of every file's path and size, and of how images are prepared.

        A file replaced by another of the same name and size goes unnoticed: reading them all would take too long.
        """
        digest = hashlib.blake2b(f"{self.image_size} {self.settings.flip} {self.class_names}".encode(), digest_size=16)
        for path in self.paths:
            digest.update(f"{path.as_posix()} {(self.root / path).stat().st_size}\n".encode())
        return digest.hexdigest()

    def describe(self) -> str:
        """Return how many images and classes were found, and what was left out."""
        classes = f"{self.num_classes} classes" if self.num_classes else "unlabelled"
        lost = f", {len(self.unreadable)} unreadable left out ({self._names()})" if self.unreadable else ""
        return f"{len(self.paths):,} images below {self.root}, {classes}{lost}"

    def _pixels(self, path: Path) -> np.ndarray:
        size = self.image_size
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(self.root / path) as file:
                file.draft("RGB", (size, size))
                picture = file.convert("RGB")
        width, height = picture.size
        short = min(width, height)
        left, top = (width - short) / 2, (height - short) / 2
        box = (left, top, left + short, top + short)
        if (width, height) != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BICUBIC, box=box)
        return np.asarray(picture)

    def _has_header(self, path: Path) -> bool:
        try:
            with Image.open(self.root / path) as file:
                readable = min(file.size) > 0
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            readable = False
        if not readable:
            self.unreadable.append(path)
        return readable

    def _lose(self, path: Path) -> None:
        if path not in self.unreadable:
            self.unreadable.append(path)
            warnings.warn(f"{self.root / path}: damaged, left out", stacklevel=3)
            self._check_losses()

    def _check_losses(self) -> None:
        if len(self.unreadable) > self.settings.max_unreadable * self.found:
            raise UnreadableImages(
                f"{len(self.unreadable)} of {self.found} image files below {self.root} cannot be read "
                f"({self._names()}); mend them, or allow more with data.max_unreadable"
            )

    def _names(self) -> str:
        named = ", ".join(str(path) for path in self.unreadable[:NAMED])
        more = len(self.unreadable) - NAMED
        return named + (f" and {more} more" if more > 0 else "")
