"""Image files below a folder, and the classes that their first sub-folders name."""

from __future__ import annotations

import os
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


def find_images(root: Path) -> tuple[Path, ...]:
    """Return the image files below `root`, relative to it, in an order that no file system changes."""
    found = []
    for folder, _, names in os.walk(root, followlinks=True):
        found += [Path(folder, name) for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    return tuple(sorted((path.relative_to(root) for path in found), key=lambda path: path.parts))


def class_names(images: tuple[Path, ...]) -> tuple[str, ...]:
    """Return the sorted first sub-folders, or nothing when an image lies in `root` itself."""
    if any(len(path.parts) < 2 for path in images):
        return ()
    return tuple(sorted({path.parts[0] for path in images}))
