"""The folder for what may be fetched, or found out, again."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """Return latsem's folder in the user's cache (XDG)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "latsem"
