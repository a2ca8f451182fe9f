"""Files of tensors: written atomically, read and digested."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..components.atomic_files import replacing
from ..components.messages import first_line
from .files import UnreadableFile, regular_file


def save_tensors(tensors: dict[str, Tensor], path: Path, notes: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically, with notes in its head.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    with replacing(path) as beside:
        _save(tensors, beside, notes)


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """Open a safetensors file: only its header is read until a tensor is asked for.

    Raises:
        UnreadableFile: it cannot be read, or is damaged.
    """
    try:
        with regular_file(path), safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise UnreadableFile(f"{path}: damaged ({first_line(error)})") from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a safetensors file by name.

    Raises:
        UnreadableFile: it cannot be read, or is damaged.
    """
    with open_tensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _save(tensors: dict[str, Tensor], path: Path, notes: dict[str, str] | None) -> None:
    try:
        save_file(tensors, path, notes)
    except SafetensorError as error:
        # The library hides the number of the system's error in its text.
        found = re.search(r"os error (\d+)", str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number) if found else str(error), str(path)) from None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
