"""Pictures of a run: grids of images, and semantic streams as colours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..components.atomic_files import replacing
from ..components.images import to_pixels

GAP = 2
MIN_SIDE = 256


def grid_picture(images: Tensor, columns: int | None = None) -> Image.Image:
    """Return images `(N, 3, H, W)` in [-1, 1] as one picture, row by row, enlarged to be seen."""
    count, _, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, np.uint8)
    for index, pixels in enumerate(to_pixels(images).permute(0, 2, 3, 1).cpu().numpy()):
        top, left = GAP + index // columns * (height + GAP), GAP + index % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = pixels
    factor = max(1, MIN_SIDE // (4 * height) + 1) if height < MIN_SIDE else 1
    return Image.fromarray(sheet).resize((sheet.shape[1] * factor, sheet.shape[0] * factor), Image.Resampling.NEAREST)


def png_notes(notes: Mapping[str, object]) -> PngInfo:
    """Return text to be written into a PNG, by keyword."""
    info = PngInfo()
    for name, value in notes.items():
        # Names of files may hold bytes that are no text.
        info.add_text(name, str(value).encode("utf-8", "backslashreplace").decode())
    return info


def save_picture(picture: Image.Image, path: Path, notes: Mapping[str, object] | None = None) -> None:
    """Write a PNG, atomically, with text that says how it came about."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        picture.save(beside, format="PNG", pnginfo=png_notes(notes or {}))


def semantic_colours(stream: Tensor, features: Tensor | None = None) -> Tensor:
    """Return a semantic stream `(B, d, h, w)` as colours `(B, 3, h, w)` in [-1, 1].

    Red, green and blue are directions of the stream, each scaled by its own spread; a sign is chosen so that the
    largest entry of a direction is positive.

    Args:
        features: what the stream was made of, `(B, D, h, w)`. The directions are then those that tell most of the
            features' standardised variance, over all positions of the batch. In a whitened stream every direction
            has the same spread, and its own principal components would be arbitrary. Without features they are these.
    """
    vectors = stream.detach().double().movedim(1, -1)
    flat = vectors.flatten(0, -2)
    centred = flat - flat.mean(0)
    directions = _widest(centred) if features is None else _most_telling(centred, _positions(features, stream))
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    colours = centred @ (directions * largest.sign())
    colours = (colours / (2.5 * colours.std(0).clamp_min(1e-9))).clamp(-1, 1)
    if colours.shape[1] < 3:
        colours = colours[:, :1].expand(-1, 3)
    return colours.unflatten(0, vectors.shape[:3]).movedim(-1, 1).float()


def _widest(centred: Tensor) -> Tensor:
    _, directions = torch.linalg.eigh(centred.T @ centred)
    return directions.flip(1)[:, :3]


def _most_telling(centred: Tensor, features: Tensor) -> Tensor:
    """Return the directions `(d, 3)` whose linear prediction of the features holds most of their variance.

    Reduced-rank regression: the eigenvectors of Z'FF'Z, with the stream Z at unit covariance.
    """
    spread, axes = torch.linalg.eigh(centred.T @ centred)
    kept = spread >= 1e-9 * spread[-1]
    whitening = axes[:, kept] * spread[kept].clamp_min(1e-18).rsqrt()
    shared = whitening.T @ (centred.T @ features)
    return whitening @ _widest(shared.T)


def _positions(features: Tensor, stream: Tensor) -> Tensor:
    """Return features at the positions of the stream, standardised, `(B h w, D)`."""
    values = features.detach().to(stream.device).double()
    if values.shape[-2:] != stream.shape[-2:]:
        values = torch.nn.functional.interpolate(values, stream.shape[-2:], mode="bilinear", align_corners=False)
    flat = values.movedim(1, -1).flatten(0, -2)
    return (flat - flat.mean(0)) / flat.std(0).clamp_min(1e-9)


def semantic_picture(
    images: Tensor, stream: Tensor, features: Tensor | None = None, columns: int | None = None
) -> Image.Image:
    """Return rows of images `(B, 3, H, W)` in [-1, 1], and under each image its semantic stream as colours.

    Args:
        features: what the stream was made of, if it is known (see `semantic_colours`).
        columns: images in a row; by default all.
    """
    columns = min(columns or len(images), len(images))
    colours = semantic_colours(stream.cpu(), features)
    colours = torch.nn.functional.interpolate(colours, images.shape[-2:], mode="nearest")
    missing = -len(images) % columns
    blank = torch.ones(missing, *images.shape[1:])
    rows = [torch.cat([each, blank]).unflatten(0, (-1, columns)) for each in (images.cpu(), colours)]
    return grid_picture(torch.stack(rows, 1).flatten(0, 2), columns=columns)


def evolution_picture(folder: Path) -> Image.Image | None:
    """Return the images and, under them, one row of colours for every `step-*.png` in a folder, in order of steps."""
    pictures = [Image.open(path).convert("RGB") for path in sorted(folder.glob("step-*.png"))]
    if not pictures:
        return None
    width, height = pictures[0].size
    half = height // 2
    sheet = Image.new("RGB", (width, half * (len(pictures) + 1)), "white")
    sheet.paste(pictures[0].crop((0, 0, width, half)), (0, 0))
    for row, picture in enumerate(pictures, 1):
        sheet.paste(picture.crop((0, half, width, height)), (0, row * half))
    return sheet
