"""The classes that the first sub-folders of a tree of images name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os.path import commonpath

from ..messages import named
from .files import Tree

FEW = 3
FEW_SHARE = 0.01
"""Images beside the class folders are strays if they are no more than the larger of both (our choice)."""

FEW_AMONG = 4
"""Strays are at most one to so many images in class folders (our choice)."""


@dataclass(frozen=True)
class Classes:
    """Classes of a tree of images.

    Attributes:
        names: the first sub-folders that hold images, sorted; none if the images are unlabelled.
        strays: images beside the class folders, which belong to no class.
        empty: other first sub-folders, which hold no image.
        warnings: what looks unlike what was meant.
    """

    names: tuple[str, ...]
    strays: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def classes_of(tree: Tree) -> Classes:
    """Return the classes of a tree: its first sub-folders, unless more than a few images lie beside them."""
    folders = Counter(image.rpartition("/")[0] for image in tree.images)
    beside = folders.pop("", 0)
    sizes: Counter[str] = Counter()
    for folder, images in folders.items():
        sizes[folder.partition("/")[0]] += images
    at_root = tuple(image for image in tree.images if "/" not in image) if beside else ()
    if at_root and not _strays(beside, sizes):
        return Classes((), warnings=tuple(_mixed(at_root, sizes)))
    names = tuple(sorted(sizes))
    empty = tuple(folder for folder in tree.folders if folder not in sizes) if names else ()
    return Classes(names, at_root, empty, (*_beside(at_root), *_folders_of_folders(folders, sizes)))


def _strays(beside: int, sizes: Counter[str]) -> bool:
    """Return whether images of the root are strays: few, where several folders hold many."""
    inside = sizes.total()
    return len(sizes) > 1 and beside <= max(FEW, FEW_SHARE * inside) and FEW_AMONG * beside <= inside


def _mixed(at_root: Sequence[str], sizes: Counter[str]) -> Iterator[str]:
    if len(sizes) > 1:
        yield (
            f"the images are taken as unlabelled: {len(at_root):,} lie beside the {len(sizes):,} sub-folders "
            f"({named(at_root)}); for labels move them into sub-folders, or away"
        )


def _beside(strays: Sequence[str]) -> Iterator[str]:
    if strays:
        count = "1 image lies" if len(strays) == 1 else f"{len(strays):,} images lie"
        yield f"{count} beside the class folders, and is left out: {named(strays)}"


def _folders_of_folders(folders: Counter[str], sizes: Counter[str]) -> Iterator[str]:
    """Warn of classes that are folders of folders: `train` and `val`, say."""
    found: list[str] = []
    inside: list[str] = []
    for name in sorted(sizes):
        below = [folder for folder in folders if folder.startswith(f"{name}/")]
        if len(below) > 1 and folders[name] <= FEW_SHARE * sizes[name]:
            found.append(name)
            inside = inside or below
    if found:
        level = commonpath(inside)
        kept = sorted({folder[len(level) + 1 :].partition("/")[0] for folder in inside})
        which = "class" if len(found) == 1 else "classes"
        yield (
            f"{which} {named(found)}: made of sub-folders ({named(kept)}); if those are meant as the classes, "
            f"data.root is a level too high: .../{level}"
        )
