"""Pickles of numbers, read without running anything.

A pickle names functions and classes, and has them called. Here every name stands for a class of this file that keeps
what it is handed; any other name is refused. Arrays are made afterwards, of bytes and a checked type.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...components.weight_files import require_modest, require_stored

MAX_BYTES = 512 * 2**20

_NUMBER = re.compile(r"[fiu][1248]|b1")


class Holder:
    """Keeps the arguments and the state that a pickle hands it."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments: tuple[Any, ...] = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class NumberType(Holder):
    """A numpy dtype."""

    def resolve(self) -> np.dtype[Any]:
        """Return the dtype.

        Raises:
            ValueError: it is no plain number.
        """
        code = self.arguments[0] if self.arguments else None
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "<"
        if not isinstance(code, str) or not _NUMBER.fullmatch(code) or order not in ("<", ">", "|"):
            raise ValueError(f"holds an array of {code!r}, which are no numbers")
        return np.dtype(f"{order}{code}")


class Array(Holder):
    """A numpy array: `_reconstruct(...)`, then the state `(version, shape, dtype, Fortran order, bytes)`."""

    def resolve(self) -> np.ndarray[Any, Any]:
        """Return the array.

        Raises:
            ValueError: its parts do not fit together.
        """
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("holds a damaged array")
        _, shape, kind, fortran, raw = self.state
        return _array(raw, kind, shape, "F" if fortran else "C")


class BufferArray(Holder):
    """A numpy array as pickle protocol 5 has it: `_frombuffer(bytes, dtype, shape, order)`."""

    def resolve(self) -> np.ndarray[Any, Any]:
        """Return the array.

        Raises:
            ValueError: its parts do not fit together.
        """
        if len(self.arguments) != 4:
            raise ValueError("holds a damaged array")
        return _array(*self.arguments)


class FittedPCA(Holder):
    """A fitted PCA of scikit-learn: its attributes are the state."""


class EncodedBytes(Holder):
    """How protocol 2 writes bytes: `encode(text, "latin1")`, of the characters 0 to 255."""

    def resolve(self) -> bytes:
        """Return the bytes.

        Raises:
            ValueError: any other text.
        """
        if len(self.arguments) != 2 or not isinstance(self.arguments[0], str) or self.arguments[1] != "latin1":
            raise ValueError("holds damaged bytes")
        return self.arguments[0].encode("latin1")


def _array(raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if not isinstance(kind, NumberType) or order not in ("C", "F"):
        raise ValueError("holds a damaged array")
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("holds an array without a shape")
    data, dtype = raw.resolve() if isinstance(raw, EncodedBytes) else raw, kind.resolve()
    if not isinstance(data, bytes | bytearray) or len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"holds an array of the shape {shape} with other bytes than it needs")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


STAND_INS: Mapping[str, type] = {
    "numpy.ndarray": Array,
    "numpy.dtype": NumberType,
    "_codecs.encode": EncodedBytes,
    "sklearn.decomposition._pca.PCA": FittedPCA,
    **{
        f"numpy.{core}.{name}": stand_in
        for core in ("core", "_core")
        for name, stand_in in (
            ("multiarray._reconstruct", Array),
            ("multiarray.scalar", Holder),
            ("numeric._frombuffer", BufferArray),
        )
    },
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        full = f"{module}.{name}"
        if full not in STAND_INS:
            raise ValueError(f"holds {full[:100]!r}: only numbers, arrays and a PCA are read, and nothing is run")
        return STAND_INS[full]


def read_pickle(path: Path) -> Any:
    """Return what a pickle, bare or inside a file that torch.save wrote, is made of; arrays are not resolved yet.

    Raises:
        OSError: the file cannot be read.
        ValueError: not a pickle, or one with anything but numbers, texts, containers, arrays and a PCA in it.
    """
    try:
        pickled = _pickled_bytes(path)
        require_modest(io.BytesIO(pickled))
        return _Reader(io.BytesIO(pickled)).load()
    except (OSError, ValueError):
        raise
    except Exception as error:  # A broken or hostile file can fail in any way.
        raise ValueError(f"cannot be read as a pickle ({type(error).__name__}: {str(error)[:200]!r})") from None


def _pickled_bytes(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        _check_size(path.stat().st_size)
        return path.read_bytes()
    require_stored(path)
    with zipfile.ZipFile(path) as archive:
        inside = next((entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")), None)
        if inside is None:
            raise ValueError("is a zip file without a data.pkl: torch.save did not write it")
        _check_size(inside.file_size)
        return archive.read(inside)


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"holds {size:,} bytes; a PCA has at most {MAX_BYTES:,}")
