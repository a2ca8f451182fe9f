"""Pictures of what a frozen encoder and a projection make of images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..components.data.crop import UnsupportedPicture
from ..components.data.files import NotRegular, find_images, open_regular
from ..components.data.picture import AS_VIEWERS_DO, LARGEST_FILE, Decoding, decode
from ..components.encoders.encoder import Encoder
from ..components.images import to_unit
from ..components.projections.projection import Projection
from ..components.user_cache import expanded
from .errors import UserError
from .pictures import grid_picture, semantic_colours

COLUMNS = 8
AT_ONCE = 16
OF_A_FOLDER = 64
"""Pictures drawn of a folder at most: more would not be looked at one by one."""

WHITE = 1.0


def named_pictures(paths: Sequence[Path]) -> list[Path]:
    """Return picture files, with the first of those below it in the place of each folder.

    Raises:
        UserError: names every folder without a picture.
    """
    found: list[Path] = []
    problems: list[str] = []
    for path in paths:
        folder = expanded(path)
        if not folder.is_dir():
            found.append(path)
            continue
        tree = find_images(folder)
        problems += tree.problems or ([] if tree.images else [f"{path}: no picture is below this folder"])
        found += sorted(folder / name for name in tree.images[:OF_A_FOLDER])
    if problems:
        raise UserError(*problems)
    return found


def read_pictures(paths: Sequence[Path], side: int, decoding: Decoding = AS_VIEWERS_DO) -> Tensor:
    """Return image files as `(N, 3, side, side)` uint8, decoded and cropped as training images are.

    Raises:
        UserError: names every file that cannot be read.
    """
    pictures, problems = [], []
    for path in paths:
        try:
            with open_regular(expanded(path)) as file:
                pixels = torch.from_numpy(decode(file.read(LARGEST_FILE + 1), side, decoding).copy())
            pictures.append(pixels.permute(2, 0, 1))
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror}")
        except NotRegular as error:
            problems.append(str(error))
        except UnsupportedPicture as error:
            problems.append(f"{path}: cannot be used: {error}")
        except ValueError as error:
            problems.append(f"{path}: no image ({str(error)[:150]})")
    if problems:
        raise UserError(*problems)
    return torch.stack(pictures)


def feature_grids(encoder: Encoder, images: Tensor, device: torch.device) -> Iterable[Tensor]:
    """Yield feature grids `(b, D, h, w)` of images `(N, 3, H, W)` uint8."""
    for batch in images.split(AT_ONCE):
        yield encoder(to_unit(batch.to(device))).grid


@torch.no_grad()
def features_picture(images: Tensor, grids: Iterable[Tensor], projection: Projection) -> Image.Image:
    """Return images `(N, 3, H, W)` uint8 in rows, and under each its projected features as colours.

    All images share the colours: the same colour means the same in each of them.
    """
    # What a batch norm would measure of these few images is not what it has learned.
    projection.eval()
    pairs = [(grid.cpu(), projection(grid).cpu()) for grid in grids]
    features, stream = (torch.cat(each) for each in zip(*pairs, strict=True))
    colours = F.interpolate(semantic_colours(stream, features), images.shape[-2:], mode="nearest")
    shown, columns = to_unit(images), min(COLUMNS, len(images))
    missing = -len(images) % columns
    blank = shown.new_full((missing, *shown.shape[1:]), WHITE)
    rows = zip(torch.cat([shown, blank]).split(columns), torch.cat([colours, blank]).split(columns), strict=True)
    return grid_picture(torch.cat([row for pair in rows for row in pair]), columns=columns)
