"""Shards: safetensors files that are whole or not there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import UserError
from ..files import write_json
from ..tensor_files import save_tensors, sha256_of

KEYS = "keys"


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a finished shard.

    Attributes:
        first: index of its first image.
        images: number of its images.
        bytes: size of its file.
    """

    file: str
    first: int
    images: int
    bytes: int
    sha256: str


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:06d}.safetensors"


def key_numbers(keys: Sequence[str]) -> Tensor:
    """Return 63-bit digests `(n,)` of image names: by these, entries are paired with images."""
    digests = [hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys]
    return torch.tensor([int.from_bytes(digest) >> 1 for digest in digests], dtype=torch.int64)


def write_shard(folder: Path, number: int, first: int, tensors: dict[str, Tensor]) -> ShardRecord:
    """Write a shard, and only then record it.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    path = folder / shard_name(number)
    save_tensors(tensors, path)
    record = ShardRecord(path.name, first, len(tensors[KEYS]), path.stat().st_size, sha256_of(path))
    write_json(path.with_suffix(".json"), asdict(record))
    return record


def finished(folder: Path, number: int) -> ShardRecord | None:
    """Return the record of a shard that is whole, or None."""
    path = folder / shard_name(number)
    try:
        record = ShardRecord(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        return record if path.stat().st_size == record.bytes else None
    except (OSError, ValueError, TypeError):
        return None


class ShardReader:
    """The tensors of one shard, in the file's memory map: what is not read takes no memory.

    Raises:
        UserError: the file is missing, cut off or another one.
    """

    def __init__(self, path: Path, record: ShardRecord) -> None:
        self.path = path
        if not path.is_file() or path.stat().st_size != record.bytes:
            size = f"{path.stat().st_size:,}" if path.is_file() else "no"
            raise UserError(f"{path}: {size} bytes instead of {record.bytes:,}: {remedy(path.parent)}")
        try:
            file = safe_open(path, framework="pt")
            self.tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{path}: damaged ({error}): {remedy(path.parent)}") from None


def remedy(folder: Path) -> str:
    """Return what to do about a cache that cannot be used."""
    return f"make it again with 'latsem cache RECIPE --replace' (folder {folder}), or set cache.use=never"
