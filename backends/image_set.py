"""Generated images as files: a folder of PNG, or the `.npz` that ADM's evaluator reads."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..components.atomic_files import replacing
from ..components.system_names import is_system_name
from .errors import UserError
from .files import MissingFile, Shape, Text, UnreadableFile, read_json, write_json
from .pictures import save_picture
from .run_folder import differences

DESCRIPTION = "samples.json"


class DescriptionShape(Shape):
    """What `samples.json` contains."""

    count: int
    protocol: dict[Text, Any]


class ImageSet:
    """A folder with one PNG an image, named by its index, and how they came about.

    An image is written whole or not at all, so what is there need not be drawn again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def claim(self, count: int, protocol: dict[str, Any]) -> None:
        """Take the folder for images of a protocol, or go on with it; it may be asked for more images than before.

        Raises:
            UserError: it holds something else, images of another protocol, or more of them.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder}: is a file; name a folder, or a file that ends in .npz")
        there = self._described()
        if there is None:
            if self.folder.exists() and not all(is_system_name(entry.name) for entry in self.folder.iterdir()):
                raise UserError(f"{self.folder}: is not empty, and holds no samples of latsem; take another folder")
        elif there["protocol"] != protocol:
            changed = "; ".join(differences(there["protocol"], protocol))
            raise UserError(f"{self.folder}: holds images that came about otherwise ({changed}); take another folder")
        elif there["count"] > count:
            raise UserError(f"{self.folder}: holds {there['count']:,} images, not {count:,}; take another folder")
        write_json(self.folder / DESCRIPTION, {"count": count, "complete": False, "protocol": protocol})

    def finish(self, count: int) -> None:
        """Count the images, and say in the description that they are all there.

        Raises:
            UserError: some are missing, or there are others.
        """
        there = {path.name for path in self.folder.glob("*.png") if not is_system_name(path.name)}
        wanted = {self.path(index).name for index in range(count)}
        if there != wanted:
            odd = sorted(there ^ wanted)
            raise UserError(f"{self.folder}: {len(odd):,} images missing or too many, {odd[0]} first; begin again")
        described = self._described()
        assert described is not None
        write_json(self.folder / DESCRIPTION, described | {"complete": True})

    def path(self, index: int) -> Path:
        """Return the file of an image."""
        return self.folder / f"{index:06d}.png"

    def has(self, indices: Iterable[int]) -> bool:
        """Return whether all of some images are there."""
        return all(self.path(index).exists() for index in indices)

    def write(self, index: int, pixels: Tensor, notes: Mapping[str, object]) -> None:
        """Write an image `(3, H, W)` uint8, with text that says how it came about."""
        save_picture(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()), self.path(index), notes)

    def _described(self) -> dict[str, Any] | None:
        try:
            return read_json(self.folder / DESCRIPTION, DescriptionShape)
        except MissingFile:
            return None
        except UnreadableFile as error:
            raise UserError(f"{error}; take another folder") from None


def pack(images: ImageSet, labels: list[int], target: Path) -> None:
    """Write all images as one `.npz`, an image at a time: `arr_0` `(N, H, W, 3)` uint8, `arr_1` labels `(N,)` int64."""
    width, height = Image.open(images.path(0)).size
    pixels = (np.asarray(Image.open(images.path(index))).tobytes() for index in range(len(labels)))
    with replacing(target) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        _add_array(archive, "arr_0", (len(labels), height, width, 3), np.dtype(np.uint8), pixels)
        numbers = np.asarray(labels, np.int64)
        _add_array(archive, "arr_1", numbers.shape, numbers.dtype, iter([numbers.tobytes()]))


def _add_array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], kind: np.dtype[Any], content: Iterator[bytes]
) -> None:
    # A fixed date: the same images make the same file.
    member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
    with archive.open(member, "w", force_zip64=True) as file:
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for piece in content:
            file.write(piece)
