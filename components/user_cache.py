"""The user's own folders: home, and the cache for what may be fetched, or found out, again."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path


class NoHome(ValueError):  # noqa: N818
    """A path begins with `~` where nobody knows what that stands for; one line."""


def expanded(path: Path | str) -> Path:
    """Return a path with `~` replaced by the user's home.

    Raises:
        NoHome: it begins with `~`, and there is no home: HOME is not set and the user is not known to the system.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise NoHome(f"{path}: '~' stands for the home folder, and HOME is not set; write the whole path") from None


def user_cache() -> Path:
    """Return latsem's folder in the user's cache (XDG), or one that goes with the process where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "latsem"
    except RuntimeError:
        return _cache_of_the_process()


@cache
def _cache_of_the_process() -> Path:
    folder = tempfile.mkdtemp(prefix="latsem-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
