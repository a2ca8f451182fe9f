"""Values of many images, computed in pieces by all processes and kept in files until all are there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ..loader import pieces
from ..tensor_files import load_tensors, save_tensors

Make = Callable[[range], dict[str, Tensor]]
"""Values of the images of a piece, each `(N, ...)`."""


class Shares:
    """A folder of pieces. Those that are there already are not computed again, whoever computed them.

    Args:
        folder: named by everything that the values depend on.
        count: number of images.
        size: images in a piece.
    """

    def __init__(self, folder: Path, count: int, size: int) -> None:
        # Pieces of another size are no pieces of this one.
        self.folder = folder.with_name(f"{folder.name}-{size}")
        self.pieces = list(pieces(range(count), size))

    def compute(self, fabric: Fabric, make: Make, progress: Callable[[int], None] | None = None) -> None:
        """Compute this process's share of the pieces that are missing, and wait for the others."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, piece in enumerate(self.pieces):
            if number % fabric.world_size == fabric.global_rank and not self._path(piece).exists():
                self._write(piece, make(piece))
            if progress:
                progress(piece.stop)
        fabric.barrier()

    def joined(self) -> dict[str, Tensor]:
        """Return the values of all images, in order."""
        found = [load_tensors(self._path(piece)) for piece in self.pieces]
        return {name: torch.cat([values[name] for values in found]) for name in (found[0] if found else ())}

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, piece: range) -> Path:
        return self.folder / f"{piece.start:08d}.safetensors"

    def _write(self, piece: range, values: dict[str, Tensor]) -> None:
        save_tensors({name: value.cpu().contiguous() for name, value in values.items()}, self._path(piece))
