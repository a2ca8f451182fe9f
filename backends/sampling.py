"""Images from the folder of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .assembly import ImageModel
from .checkpoint import load_newest
from .errors import UserError
from .hardware import make_fabric, resolve_precision
from .loader import pieces
from .pictures import grid_picture, save_picture
from .run_folder import RunFolder, short_digest

AT_ONCE = 64


class TrainedRun:
    """A run folder and what makes images from it."""

    def __init__(self, parts: ImageModel, folder: RunFolder) -> None:
        self.parts, self.folder = parts, folder
        fabric = make_fabric(parts.fabric)
        self.device = fabric.device
        self.precision = resolve_precision(parts.fabric, fabric.device.type)
        parts.space.to(self.device)
        parts.model.to(self.device)

    def load_newest(self) -> int:
        """Load the moving average of the newest checkpoint and return its step.

        Raises:
            UserError: there is no checkpoint, or it belongs to another model.
        """
        return load_newest(self.folder, self.parts.model)

    def draw_samples(self, count: int, seed: int, label: int | None = None) -> Path:
        """Draw images into one picture in the run folder and return its path.

        Raises:
            UserError: no checkpoint, or no such class.
        """
        classes = self.parts.num_classes
        if label is not None and label >= classes:
            raise UserError(f"--class {label}: the data has {classes} classes, counted from 0")
        step = self.load_newest()
        generator = self.parts.generator(self.device, self.precision)
        parts = [generator.images(indices, seed, only=label) for indices in pieces(range(count), AT_ONCE)]
        path = self.folder.samples / _sample_name(step, count, seed, label, self.parts.recipe)
        save_picture(grid_picture(torch.cat(parts)), path)
        return path


def _sample_name(step: int, count: int, seed: int, label: int | None, recipe: dict[str, Any]) -> str:
    """Return a file name that differs whenever the images do."""
    how = short_digest([recipe["guidance"], recipe["sampler"], label])
    return f"sample-{step:08d}-n{count}-seed{seed}-{how}.png"
