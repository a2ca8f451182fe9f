"""Files of tensors: written with the system's errors, flushed, digested, and compared with a model."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: dict[str, Tensor], path: Path, notes: dict[str, str] | None = None) -> None:
    """Write a safetensors file, with notes in its head.

    Raises:
        OSError: it cannot be written; part of it may be left.
    """
    try:
        save_file(tensors, path, notes)
    except SafetensorError as error:
        # The library hides the number of the system's error in its text.
        found = re.search(r"os error (\d+)", str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number) if found else str(error), str(path)) from None


def flush(paths: Iterable[Path]) -> None:
    """Wait until files and folders are on the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def misfits(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return the first names that only one of weights and model has, or in another shape; empty if all fit."""
    names = [
        name
        for name in sorted(tensors.keys() | wanted.keys())
        if name not in tensors or name not in wanted or tensors[name].shape != wanted[name].shape
    ]
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
