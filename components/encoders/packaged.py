"""Weights that an installed package carries: read once, under timm's names, and kept in the user's cache.

The packages hold pickles of tensors, which are read without running anything in them. From then on a safetensors file
is read, named by the digest of what it was made of and compared with one of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..atomic_files import replacing
from ..messages import first_line
from ..releases import require_whole
from ..user_cache import user_cache
from ..weight_files import read_state
from .timm_table import Package

CONTENT = "content"
"""What the digest of the tensors is called in the head of a file."""


def tensors(package: Package, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a package by the names that a network has for them.

    Args:
        wanted: the network's own state, in its order; only names and shapes are looked at.

    Raises:
        ValueError: the package is not installed, or its file is damaged or of another network; one line.
    """
    source = _file(package)
    named = [f"{name} {tuple(value.shape)}" for name, value in wanted.items()]
    digest = hashlib.sha256("\n".join(named).encode() + source.read_bytes())
    kept = user_cache() / "weights" / f"{source.stem}-{digest.hexdigest()[:16]}.safetensors"
    found = _read(kept)
    if found is None:
        found = _converted(source, wanted)
        _keep(found, kept)
    return found


def _file(package: Package) -> Path:
    try:
        installed = distribution(package.name)
    except PackageNotFoundError:
        raise ValueError(package.missing()) from None
    carried = [file for file in installed.files or () if file.suffix == ".pth"]
    paths = [Path(str(installed.locate_file(file))) for file in carried]
    if len(paths) != 1 or not paths[0].is_file():
        raise ValueError(f"the package {package.name} is there without its file of weights: install it again")
    try:
        require_whole(paths[0])
    except OSError as error:
        raise ValueError(f"{paths[0]}: {first_line(error)}") from None
    return paths[0]


def _converted(source: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under other names: the same number in the same order, alike in shape and in what they are."""
    try:
        carried = read_state(source)
    except ValueError as error:
        raise ValueError(f"{source} {error}") from None
    if len(carried) != len(wanted):
        raise ValueError(f"{source} holds another network ({len(carried)} tensors, not {len(wanted)})")
    for one, other in zip(carried.items(), wanted.items(), strict=True):
        if _role(*one) != _role(*other):
            raise ValueError(f"{source} holds another network (first to differ: {one[0]} for {other[0]})")
    return {name: value.contiguous() for name, value in zip(wanted, carried.values(), strict=True)}


def _role(name: str, value: Tensor) -> tuple[str, tuple[int, ...]]:
    """Return what a tensor is for (weight, bias, running_mean, ...), and its shape."""
    return name.rpartition(".")[2], tuple(value.shape)


def _read(path: Path) -> dict[str, Tensor] | None:
    """Return the tensors of a file that is as it was written; None if it is not there, or not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            noted = (file.metadata() or {}).get(CONTENT)
    except (SafetensorError, OSError):
        return None
    return found if noted == _digest(found) else None


def _keep(found: dict[str, Tensor], path: Path) -> None:
    """Write a file as a whole; where nothing can be written the next process converts anew."""
    with suppress(OSError, SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            save_file(found, beside, {CONTENT: _digest(found)})


def _digest(found: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(found.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
