"""Images from the folder of a run."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..components.images import to_pixels
from ..components.predictor import Progress
from ..components.settings import near_name
from ..components.streams import SEMANTIC
from ..components.user_cache import expanded
from .assembly import ImageModel
from .blocks import settle
from .checkpointing.store import kept_checkpoint, step_of
from .checkpointing.weights import load_newest, load_weights
from .console import RunConsole
from .errors import UserError
from .evaluation.records import shown
from .evaluation.scoring import weights_digest
from .files import short_digest
from .generation import ImageGenerator, LabelChoice
from .hardware import code_version, resolve_precision
from .image_set import ImageSet, pack
from .launching import launch, leave
from .loader import pieces
from .pictures import grid_picture, save_picture, semantic_picture
from .processes import in_first
from .run_data import class_names
from .run_folder import RunFolder
from .screen import part_words

AT_ONCE = 64

LONGEST = 60
"""Characters of a file's name for settings that are not the run's; a digest takes the place of the rest."""


class TrainedRun:
    """A run folder and what makes images from it."""

    def __init__(self, parts: ImageModel, folder: RunFolder) -> None:
        self.parts, self.folder = parts, folder
        self.fabric = launch(parts.fabric)
        self.device = self.fabric.device
        self.precision = resolve_precision(parts.fabric, self.device.type)
        self.classes = class_names(folder)
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

    def class_of(self, text: str) -> int:
        """Return a class by its name, or by its number, counted from 0.

        Raises:
            UserError: there is no such class.
        """
        count = self.parts.num_classes
        if not count:
            raise UserError(f"--class {text}: the run was trained on unlabelled images")
        if text in self.classes:
            return self.classes.index(text)
        if text.isdecimal() and int(text) < count:
            return int(text)
        known = f"; by name: {', '.join(self.classes[:10])}{', ...' if count > 10 else ''}" if self.classes else ""
        near = near_name(text, self.classes)
        raise UserError(f"--class {text}: no such class{near} (there are {count}, counted from 0{known})")

    def draw_samples(
        self,
        count: int,
        seed: int,
        labels: LabelChoice = "balanced",
        *,
        step: int | None = None,
        semantics: bool = False,
        out: Path | None = None,
    ) -> Path:
        """Draw images into one picture and return its path.

        Args:
            step: of the checkpoint; by default the newest.
            semantics: whether the semantic stream that was drawn with each image is shown under it, as colours.
            out: where the picture goes; by default into the run folder, under a name that differs whenever it does.

        Raises:
            UserError: no such checkpoint, no such class, no semantic stream, or `out` is no name of a PNG.
        """
        if semantics and SEMANTIC not in self.parts.streams:
            raise UserError(f"--semantics: {self.folder.path} has no semantic stream")
        if out is not None and (out.suffix.lower() != ".png" or out.is_dir()):
            raise UserError(f"--out: {out}: one picture is written as a .png; --to FOLDER writes one for each image")
        found, generator = self._ready(labels, step)
        picture = self._picture(generator, range(count), seed, labels, semantics=semantics)
        name = self._sample_name(found, count, seed, labels) + ("-semantics" if semantics else "")
        path = self.folder.samples / f"{name}.png" if out is None else expanded(out)
        if self.fabric.is_global_zero:
            save_picture(picture, path, self._notes(found, seed, labels) | {"images": count})
        leave(self.fabric)
        return path

    def _picture(
        self, generator: ImageGenerator, indices: range, seed: int, labels: LabelChoice, *, semantics: bool
    ) -> Image.Image:
        images, drawn = [], []
        with RunConsole(quiet=not self.fabric.is_global_zero).counting("images", len(indices)) as progress:
            for piece in pieces(indices, AT_ONCE):
                streams = generator.streams(piece, seed, labels, _within(piece, progress))
                images.append(generator.decoded(streams, piece))
                if semantics:
                    drawn.append(streams[SEMANTIC].cpu())
                progress(piece.stop)
        if semantics:
            return semantic_picture(torch.cat(images), torch.cat(drawn), columns=math.ceil(math.sqrt(len(indices))))
        return grid_picture(torch.cat(images))

    def write_images(
        self,
        count: int,
        seed: int,
        target: Path,
        labels: LabelChoice = "balanced",
        batch_size: int = AT_ONCE,
        *,
        step: int | None = None,
    ) -> Path:
        """Draw images into a folder of PNG, or into an `.npz`, and return it; what is there is not drawn again.

        All processes take part. An image depends on the run and its own index alone.

        Args:
            step: of the checkpoint; by default the newest.

        Raises:
            UserError: no such checkpoint, no such class, or the target holds something else.
        """
        found, generator = self._ready(labels, step)
        target = expanded(target)
        if target.is_file() and target.suffix.lower() != ".npz":
            raise UserError(f"{target}: is a file; name a folder, or a new file that ends in .npz")
        packed = target.suffix.lower() == ".npz"
        images = ImageSet(target.with_name(f".{target.name}.parts") if packed else target)
        protocol = self._protocol(found, seed, labels, batch_size)
        if packed and target.exists():
            raise UserError(f"{target}: is there already; take another name")
        in_first(self.fabric, lambda: images.claim(count, protocol))
        notes = self._notes(found, seed, labels)
        with RunConsole(quiet=not self.fabric.is_global_zero).counting("images", count) as progress:
            for number, piece in enumerate(pieces(range(count), batch_size)):
                if number % self.fabric.world_size == self.fabric.global_rank and not images.has(piece):
                    chosen = generator.labels(piece, labels, seed).tolist()
                    drawn = to_pixels(generator.images(piece, seed, labels))
                    for index, label, pixels in zip(piece, chosen, drawn, strict=True):
                        images.write(index, pixels, notes | self._class_note(label) | {"index": index})
                progress(piece.stop)
        self.fabric.barrier()
        in_first(self.fabric, lambda: images.finish(count))
        if packed and self.fabric.is_global_zero:
            pack(images, generator.labels(range(count), labels, seed).tolist(), target)
            shutil.rmtree(images.folder)
        leave(self.fabric)
        return target

    def _ready(self, labels: LabelChoice, step: int | None = None) -> tuple[int, ImageGenerator]:
        classes = self.parts.num_classes
        if isinstance(labels, int) and not classes:
            raise UserError(f"--class {labels}: the run was trained on unlabelled images")
        if isinstance(labels, int) and labels >= classes:
            raise UserError(f"--class {labels}: the data has {classes} classes, counted from 0")
        checkpoint = kept_checkpoint(self.folder, step)
        load_weights(checkpoint, self.parts.model)
        return step_of(checkpoint), self.parts.generator(self.device, self.precision)

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

    def _notes(self, step: int, seed: int, labels: LabelChoice) -> dict[str, object]:
        """Return how images came about, as text for their files."""
        run, recipe = self.folder.path.resolve(), self.parts.recipe
        return {
            "Software": f"latsem, code {code_version()}",
            "recipe": run.parent.name,
            "run": run.name,
            "step": step,
            "seed": seed,
            "guidance": shown(recipe["guidance"]),
            "sampler": shown(recipe["sampler"]),
            "precision": self.precision,
            **(self._class_note(labels) if isinstance(labels, int) else {"classes": labels}),
        }

    def _class_note(self, label: int) -> dict[str, object]:
        if not self.parts.num_classes:
            return {"class": "none"}
        return {"class": f"{label} ({self.classes[label]})" if label < len(self.classes) else label}

    def _sample_name(self, step: int, count: int, seed: int, labels: LabelChoice) -> str:
        """Return a file name that differs whenever the images do; it tells what is not as in the run's recipe."""
        words = [*self._label_words(labels), *self._changed_words()]
        text = re.sub(r"[^\w.=+-]+", "_", "-".join(words))
        if len(text) > LONGEST or text != "-".join(words):
            text = f"{text[:LONGEST]}-{short_digest(words)}"
        return "-".join(filter(None, [f"sample-{step:08d}", f"n{count}", f"seed{seed}", text]))

    def _label_words(self, labels: LabelChoice) -> Iterator[str]:
        if isinstance(labels, int):
            yield f"class={self.classes[labels] if labels < len(self.classes) else labels}"
        elif labels != "balanced":
            yield labels

    def _changed_words(self) -> Iterator[str]:
        before, now = self.folder.recipe(), self.parts.recipe
        for kind in ("guidance", "sampler"):
            if now[kind] != before.get(kind):
                yield part_words(kind, now[kind]).replace(" ", "+")
        precision = now["fabric"]["precision"]
        if precision != before.get("fabric", {}).get("precision"):
            yield precision


def _within(piece: range, progress: Callable[[int], None]) -> Progress:
    """Return what moves a bar of images while a piece of them is drawn, by the sampler's steps."""
    return lambda done, of: progress(piece.start + len(piece) * done // of)
