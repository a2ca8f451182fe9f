"""Files of tensors: written with the system's errors, flushed, digested, and compared with a model."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_TYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file, one tensor after the other: the library's own writer copies all of them first.

    Raises:
        OSError: it cannot be written; part of it may be left.
    """
    # Wide types first, so that every tensor begins at a multiple of its width.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header = _header({name: tensors[name] for name in names})
    try:
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for name in names:
                file.write(_raw(tensors[name]))
    except OSError as error:
        # A failed write does not say of which file.
        raise OSError(error.errno, error.strerror, str(path)) from None


def _header(tensors: dict[str, Tensor]) -> bytes:
    entries, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


def _raw(tensor: Tensor) -> Any:
    """Return the bytes of a tensor; the machine must be little-endian, as safetensors is."""
    return tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data


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


def misfits(tensors: dict[str, Tensor], model: nn.Module) -> str:
    """Return the first names that only one of weights and model has, or in another shape; empty if all fit."""
    wanted = model.state_dict()
    names = [
        name
        for name in sorted(tensors.keys() | wanted.keys())
        if name not in tensors or name not in wanted or tensors[name].shape != wanted[name].shape
    ]
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
