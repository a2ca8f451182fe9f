"""What all sources of encoded images (JPEG, PNG, WebP, ...) share: cropping, mirroring, and damage."""

from __future__ import annotations

import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ..messages import named
from .crop import UnsupportedPicture
from .files import NotRegular
from .picture import DECODING, decode, decoding_of
from .settings import EncodedImageSettings

NAMED = 5


class UnreadableImages(OSError):  # noqa: N818
    """Too many images of a source cannot be read; the message names some."""


class EncodedImages(ABC):
    """Images that lie somewhere as encoded bytes, each with a label or none.

    Every image is decoded to RGB (see `picture`), cropped as ADM does (see `crop`), and mirrored by an odd augmentation
    seed if flips are on. An image that turns out to be unusable is replaced by the next one, named and counted.

    A subclass says how many images there are, and where the bytes, the label and the name of each come from.

    Attributes:
        where: words that follow a number of images: "below data/photos".
        found: images that were looked for; those left out are a share of these.
        unreadable: names of those left out.
        reasons: why, by name, where it is not plain damage.
    """

    def __init__(
        self, settings: EncodedImageSettings, *, where: str, found: int, class_names: tuple[str, ...] = ()
    ) -> None:
        self.settings, self.where, self.found = settings, where, found
        self.class_names = class_names
        self.num_classes = len(class_names)
        self.image_size = settings.side
        self.variants = settings.versions()
        self.decoding = decoding_of(settings)
        self.unreadable: set[str] = set()
        self.reasons: dict[str, str] = {}

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def key(self, index: int) -> str:
        """Return a name by which an image is known, whatever else is in the set."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """Return an encoded image.

        Raises:
            OSError, ValueError: it cannot be read.
        """

    @abstractmethod
    def label(self, index: int) -> int:
        """Return an image's class, 0 for unlabelled images."""

    @abstractmethod
    def contents(self) -> Iterable[str]:
        """Yield what `fingerprint` is a digest of, besides the settings: names and sizes, say."""

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image, none of one that cannot be read."""
        try:
            return self.read(index)
        except (OSError, ValueError):
            return b""

    def item(self, index: int, seed: int) -> tuple[Tensor, int]:
        """Return image `(3, size, size)` uint8 and label; an odd seed mirrors, if flips are on."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        for offset in range(len(self)):
            place = (index + offset) % len(self)
            try:
                pixels = decode(self.read(place), self.image_size, self.decoding)
            except (OSError, ValueError) as error:
                self._note_reason(self.key(place), error)
                self.lose(self.key(place))
                continue
            if self.settings.flip and seed % 2:
                pixels = pixels[:, ::-1]
            image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
            return image, self.label(place)
        raise UnreadableImages(f"no readable image left {self.where}")

    def fingerprint(self) -> str:
        """Return a digest of `contents` and of how images are prepared."""
        prepared = f"adm {self.image_size} {self.settings.flip} {self.class_names} {DECODING} {self.decoding}\n"
        digest = hashlib.blake2b(prepared.encode("utf-8", "surrogateescape"), digest_size=16)
        for line in self.contents():
            digest.update(f"{line}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def describe(self) -> str:
        """Return how many images and classes were found, and what was left out."""
        classes = f"{self.num_classes:,} {self._class_list()}" if self.num_classes else "unlabelled"
        lost = f", {len(self.unreadable)} unreadable left out ({self._names()})" if self.unreadable else ""
        # What was found comes before where: a long path may push the rest out of sight.
        return f"{len(self):,} images, {classes}; {self.where}{lost}"

    def check_losses(self, of: int) -> None:
        """Refuse to continue if too many of the `of` images that were looked at are unusable.

        Raises:
            UnreadableImages: names some.
        """
        if len(self.unreadable) > self.settings.max_unreadable * of:
            raise UnreadableImages(
                f"{len(self.unreadable)} of {of} image files {self.where} cannot be read "
                f"({self._names()}); mend them, or allow more with data.max_unreadable"
            )

    def lose(self, name: str) -> None:
        """Leave out an image that was found unusable, here or by another process, and report it once.

        Raises:
            UnreadableImages: it is one too many.
        """
        if name not in self.unreadable:
            self.unreadable.add(name)
            allowed = int(self.settings.max_unreadable * self.found)
            count = f"{len(self.unreadable):,} so far, {allowed:,} allowed"
            reason = self.reasons.get(name, "damaged")
            warnings.warn(f"{name} {self.where}: {reason}, left out ({count})", stacklevel=3)
            self.check_losses(self.found)

    def _note_reason(self, name: str, error: Exception) -> None:
        """Keep why an image cannot be used, unless it is damaged."""
        if isinstance(error, UnsupportedPicture):
            self.reasons[name] = str(error)
        elif isinstance(error, NotRegular):
            self.reasons[name] = "not a regular file"
        elif isinstance(error, OSError) and error.strerror:
            self.reasons[name] = error.strerror

    def _class_list(self) -> str:
        word = "class" if self.num_classes == 1 else "classes"
        numbers = all(name == str(number) for number, name in enumerate(self.class_names))
        return word if numbers else f"{word}: {named(self.class_names, NAMED)}"

    def _names(self) -> str:
        """Return some of the names that are left out, with their reasons."""
        lost = sorted(self.unreadable)
        return named([f"{name}: {self.reasons[name]}" if name in self.reasons else name for name in lost], NAMED)


def warn_of_empty_classes(labels: np.ndarray, classes: int, where: str) -> None:
    """Warn where some of the classes 0, 1, ... have no image: labels that count from 1, or one that is no class."""
    present = np.unique(labels)
    missing = classes - len(present)
    if missing:
        empty = np.setdiff1d(np.arange(min(classes, len(present) + NAMED)), present).astype(str).tolist()
        more = f" and {missing - len(empty[:NAMED]):,} more" if missing > NAMED else ""
        hint = "; labels count from 0" if present[0] > 0 else ""
        warnings.warn(
            f"labels {where} go up to {classes - 1:,}, and {missing:,} of these {classes:,} classes have no image "
            f"({', '.join(empty[:NAMED])}{more}){hint}",
            stacklevel=4,
        )
