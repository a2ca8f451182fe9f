"""Weight files that a project publishes under an address of its own, beside the code."""

from __future__ import annotations

import hashlib
import re
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import torch
from filelock import FileLock

from .messages import first_line

NAMED_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.[^.]+$")
"""What begins the SHA-256 of a file whose name says so, as torch's hub has it."""


def fetch(address: str) -> Path:
    """Return this machine's copy of a file, fetched if there is none; one process at a time fetches.

    It lies where torch's hub keeps such files: whoever else needs it finds it there.

    Raises:
        ValueError: it cannot be fetched, or what came is not what its name says; the message is one line.
    """
    parts = urlsplit(address)
    folder, name = Path(torch.hub.get_dir()) / "checkpoints", parts.path.rpartition("/")[2]
    copy, digest = folder / name, NAMED_DIGEST.search(name)
    if copy.is_file():
        return copy
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{name}.lock"):
            if not copy.is_file():
                torch.hub.download_url_to_file(address, str(copy), digest.group(1) if digest else None)
    except (OSError, HTTPException, RuntimeError) as error:
        place = parts.netloc or "its address"
        raise ValueError(f"{name} is not here and cannot be fetched from {place} ({first_line(error)})") from None
    return copy


def require_whole(path: Path) -> None:
    """Accept a file that is what its name says, if that says anything.

    Raises:
        ValueError: it is damaged, or another file.
        OSError: it cannot be read.
    """
    named = NAMED_DIGEST.search(path.name)
    if named is None:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(named.group(1)):
        raise ValueError(f"{path} is damaged: its SHA-256 begins with {digest[:8]}, its name says {named.group(1)}")
