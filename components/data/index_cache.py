"""Indexes of shards, kept on disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from filelock import FileLock

from ..atomic_files import replacing
from ..user_cache import expanded, user_cache
from .tar_index import TarIndex, scan

VERSION = 2


def cache_folder(chosen: Path | None) -> Path:
    """Return the folder for fetched shards and indexes: the chosen one, or one in the user's cache (XDG)."""
    return expanded(chosen) if chosen is not None else user_cache() / "webdataset"


def kept_index(shard: Path, folder: Path) -> TarIndex | None:
    """Return a shard's index if one is kept for this content, as told by path, size and time of change.

    Raises:
        OSError: the shard is not there.
    """
    stamp, kept = _place(shard, folder)
    return _read(kept, stamp)


def make_index(shard: Path, folder: Path) -> TarIndex:
    """Return a shard's index, made by one process at a time, and kept where that is possible.

    Raises:
        ValueError: the shard is cut off or no tar file.
        OSError: it cannot be read.
    """
    stamp, kept = _place(shard, folder)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(kept.with_suffix(".lock")):
            index = _read(kept, stamp)
            if index is None:
                index = scan(shard)
                with replacing(kept) as beside:
                    beside.write_text(json.dumps(stamp) + "\n" + index.dumps(), encoding="utf-8")
    except OSError:
        return scan(shard)
    return index


def _place(shard: Path, folder: Path) -> tuple[dict[str, object], Path]:
    """Return what tells a shard's content, and the file of its index."""
    status, path = shard.stat(), str(shard.resolve())
    name = hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    stamp = {"version": VERSION, "path": path, "size": status.st_size, "changed": status.st_mtime_ns}
    return stamp, folder / "indexes" / f"{name}.json"


def _read(kept: Path, stamp: dict[str, object]) -> TarIndex | None:
    """Return what is kept, unless it is of another content, another version, or damaged."""
    try:
        first, _, rest = kept.read_text(encoding="utf-8").partition("\n")
        return TarIndex.loads(rest) if json.loads(first) == stamp else None
    except (OSError, ValueError, TypeError):
        return None
