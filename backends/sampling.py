"""Images from the folder of a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from ..components.images import to_pixels
from ..components.user_cache import expanded
from .assembly import ImageModel
from .blocks import settle
from .checkpointing.weights import load_newest
from .console import RunConsole
from .errors import UserError
from .evaluation.scoring import weights_digest
from .files import short_digest
from .generation import ImageGenerator, LabelChoice
from .hardware import code_version, resolve_precision
from .image_set import ImageSet, pack
from .launching import launch, leave
from .loader import pieces
from .pictures import grid_picture, save_picture
from .processes import in_first
from .run_folder import RunFolder

AT_ONCE = 64


class TrainedRun:
    """A run folder and what makes images from it."""

    def __init__(self, parts: ImageModel, folder: RunFolder) -> None:
        self.parts, self.folder = parts, folder
        self.fabric = launch(parts.fabric)
        self.device = self.fabric.device
        self.precision = resolve_precision(parts.fabric, self.device.type)
        parts.space.to(self.device)
        parts.model.to(self.device)
        parts.model.awaits_weights = True
        settle(parts.model.denoiser, self.device, self.precision)

    def load_newest(self) -> int:
        """Load the moving average of the newest checkpoint and return its step.

        Raises:
            UserError: there is no checkpoint, or it belongs to another model.
        """
        return load_newest(self.folder, self.parts.model)

    def draw_samples(self, count: int, seed: int, labels: LabelChoice = "balanced") -> Path:
        """Draw images into one picture in the run folder and return its path.

        Raises:
            UserError: no checkpoint, or no such class.
        """
        step, generator = self._ready(labels)
        parts = [generator.images(indices, seed, labels) for indices in pieces(range(count), AT_ONCE)]
        path = self.folder.samples / _sample_name(step, count, seed, labels, self.parts.recipe)
        if self.fabric.is_global_zero:
            save_picture(grid_picture(torch.cat(parts)), path)
        leave(self.fabric)
        return path

    def write_images(
        self, count: int, seed: int, target: Path, labels: LabelChoice = "balanced", batch_size: int = AT_ONCE
    ) -> Path:
        """Draw images into a folder of PNG, or into an `.npz`, and return it; what is there is not drawn again.

        All processes take part. An image depends on the run and its own index alone.

        Raises:
            UserError: no checkpoint, no such class, or the target holds something else.
        """
        step, generator = self._ready(labels)
        target = expanded(target)
        if target.is_file() and target.suffix.lower() != ".npz":
            raise UserError(f"{target}: is a file; name a folder, or a new file that ends in .npz")
        packed = target.suffix.lower() == ".npz"
        images = ImageSet(target.with_name(f".{target.name}.parts") if packed else target)
        protocol = self._protocol(step, seed, labels, batch_size)
        if packed and target.exists():
            raise UserError(f"{target}: is there already; take another name")
        in_first(self.fabric, lambda: images.claim(count, protocol))
        with RunConsole(quiet=not self.fabric.is_global_zero).counting("images", count) as progress:
            for number, piece in enumerate(pieces(range(count), batch_size)):
                if number % self.fabric.world_size == self.fabric.global_rank and not images.has(piece):
                    for index, pixels in zip(piece, to_pixels(generator.images(piece, seed, labels)), strict=True):
                        images.write(index, pixels)
                progress(piece.stop)
        self.fabric.barrier()
        in_first(self.fabric, lambda: images.finish(count))
        if packed and self.fabric.is_global_zero:
            pack(images, generator.labels(range(count), labels, seed).tolist(), target)
            shutil.rmtree(images.folder)
        leave(self.fabric)
        return target

    def _ready(self, labels: LabelChoice) -> tuple[int, ImageGenerator]:
        classes = self.parts.num_classes
        if isinstance(labels, int) and not classes:
            raise UserError(f"--class {labels}: the run was trained on unlabelled images")
        if isinstance(labels, int) and labels >= classes:
            raise UserError(f"--class {labels}: the data has {classes} classes, counted from 0")
        return self.load_newest(), self.parts.generator(self.device, self.precision)

    def _protocol(self, step: int, seed: int, labels: LabelChoice, batch_size: int) -> dict[str, Any]:
        return {
            "step": step,
            "weights_sha256": weights_digest(self.parts.model),
            "sampler": self.parts.recipe["sampler"],
            **({"batch_size": batch_size} if self.parts.couples_images else {}),
            "guidance": self.parts.recipe["guidance"],
            "labels": labels if self.parts.num_classes else "none",
            "seed": seed,
            "precision": self.precision,
            "code": code_version(),
        }


def _sample_name(step: int, count: int, seed: int, labels: LabelChoice, recipe: dict[str, Any]) -> str:
    """Return a file name that differs whenever the images do."""
    how = short_digest([recipe["guidance"], recipe["sampler"], labels])
    return f"sample-{step:08d}-n{count}-seed{seed}-{how}.png"
