"""Files behind an address, copied to this machine whole."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from ..messages import first_line


def _opened(address: str) -> tuple[Any, str]:
    # Loaded here: settings are looked at without it.
    import fsspec  # noqa: PLC0415

    try:
        system, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{address}: {first_line(error)}") from None
    return system, path


def listed(address: str) -> list[str]:
    """Return the addresses that one with `*` in its path stands for, sorted; any other is returned as it is.

    Raises:
        ValueError: the place cannot be listed, or nothing fits.
    """
    if "*" not in address.partition("?")[0]:
        return [address]
    system, path = _opened(address)
    try:
        found = sorted(system.unstrip_protocol(name) for name in system.glob(path))
    except Exception as error:  # Every file system fails in its own way.
        raise ValueError(f"{address}: cannot be listed ({first_line(error)})") from None
    if not found:
        raise ValueError(f"{address}: nothing there fits")
    return found


def local_copy(address: str, folder: Path) -> Path:
    """Return where in a folder an address is kept; the file need not be there yet."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", urlsplit(address).path.rpartition("/")[2])[-80:]
    return folder / f"{hashlib.blake2b(address.encode(), digest_size=8).hexdigest()}-{name}"


def fetch(address: str, folder: Path) -> Path:
    """Return an address's copy in a folder; it is made if it is not there, by one process at a time.

    A copy appears under its name only once it is whole, and is then used without asking again.

    Raises:
        ValueError: it cannot be fetched, or another number of bytes came than was announced.
        OSError: it cannot be written.
    """
    copy = local_copy(address, folder)
    if copy.is_file():
        return copy
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(copy.with_name(f".{copy.name}.lock")):
        if not copy.is_file():
            beside = copy.with_name(f".{copy.name}.part")
            try:
                _download(address, beside)
                beside.replace(copy)
            finally:
                beside.unlink(missing_ok=True)
    return copy


def _download(address: str, target: Path) -> None:
    system, path = _opened(address)
    try:
        announced = system.info(path).get("size")
        system.get_file(path, str(target))
    except Exception as error:  # Every file system fails in its own way.
        raise ValueError(f"{address}: cannot be fetched ({first_line(error)}); the same command goes on") from None
    came = target.stat().st_size
    if announced is not None and came != announced:
        raise ValueError(f"{address}: {came:,} bytes came instead of {announced:,}; the same command fetches it again")
