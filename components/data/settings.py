"""Settings of the data sources."""

from __future__ import annotations

import importlib.util
import stat
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator

from ..messages import named, printable
from ..registry import register
from ..settings import Settings
from ..user_cache import expanded
from .classes import classes_of
from .files import Tree, find_images
from .patterns import expand_all, is_address, local_files

ShapeSize = 32

NAME_BYTES = 120
"""A path of some sixty letters as Python keeps it."""

INSTALL_DATASETS = "needs the package 'datasets': pip install \"latsem[huggingface]\""


class DataSettings(Settings):
    """Base of every data source's settings; `image_size` is the side of the square images it gives.

    Attributes:
        places: keys that say where the images lie: a run may find the same ones elsewhere.
    """

    places: ClassVar[tuple[str, ...]] = ()
    part_specific: ClassVar[frozenset[str]] = frozenset({"expect_images", "expect_classes"})

    expect_images: int | None = Field(
        None, ge=1, description="number of images there should be; checked against what is found"
    )
    expect_classes: int | None = Field(
        None, ge=0, description="number of classes there should be, 0 for unlabelled; checked against what is found"
    )

    @property
    def side(self) -> int:
        """Side of the images, pixels."""
        raise NotImplementedError

    def classes(self) -> int | None:
        """Return the number of classes, 0 for unlabelled images, None if only reading the data can tell."""
        raise NotImplementedError

    def versions(self) -> int:
        """Return how many versions of an image augmentation makes."""
        return 1

    def held(self, images: int) -> int:
        """Return the bytes that a process keeps of so many images: their names, if nothing else."""
        return NAME_BYTES * images

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield `(key, message)` for everything outside the recipe that is not as it should be."""
        return iter(())


class ExpectedData(DataSettings):
    """Stands for data that is not here: it is what the recipe says to expect, and cannot be built."""

    image_side: int
    images: int
    labels: int
    variants: int = 1

    @property
    def side(self) -> int:
        """Side of the images, pixels."""
        return self.image_side

    def classes(self) -> int:
        """Return the expected number of classes."""
        return self.labels


class EncodedImageSettings(DataSettings):
    """Base of the settings of sources whose images lie somewhere as encoded files."""

    image_size: int = Field(32, ge=8, le=2048, description="side after resizing the short edge and centre crop (ADM)")
    labels: Literal["auto", "none"] = Field("auto", description="auto: classes if the data has them; none: unlabelled")
    flip: bool = Field(True, description="mirror half of the images, another half every epoch")
    max_unreadable: float = Field(0.01, ge=0, le=1, description="share of unreadable images that is put up with")
    metadata: Literal["apply", "ignore"] = Field(
        "apply",
        description="apply: EXIF orientation, colour profiles and gamma, as viewers do; ignore: as ADM's code",
    )
    background: str = Field("white", description="colour behind transparent pixels: a name or '#rrggbb'")
    max_pixels: int = Field(
        2**28, ge=1, description="pixels of the largest picture that is read, before it is resized; 3 bytes each"
    )

    @field_validator("background")
    @classmethod
    def _a_colour(cls, value: str) -> str:
        # Loaded here: most settings are read without a picture.
        from PIL import ImageColor  # noqa: PLC0415

        ImageColor.getrgb(value)
        return value

    @property
    def background_colour(self) -> tuple[int, int, int]:
        """Red, green and blue of the background, 0 to 255."""
        from PIL import ImageColor  # noqa: PLC0415

        red, green, blue = ImageColor.getrgb(self.background)[:3]
        return red, green, blue

    @property
    def side(self) -> int:
        """Side of the images, pixels."""
        return self.image_size

    def classes(self) -> int | None:
        """Return the number of classes as far as it is known without opening the data."""
        return 0 if self.labels == "none" else self.expect_classes

    def versions(self) -> int:
        """Two where images are mirrored."""
        return 2 if self.flip else 1


@register("data", "shapes", builds=".shapes:Shapes")
class ShapesSettings(DataSettings):
    """Procedural 32x32 scenes: one of five shaded objects on a soft gradient; label = object."""

    size: int = Field(20_000, ge=1, le=10_000_000, description="number of images")
    seed: int = Field(0, ge=0, description="another seed gives other scenes")
    rotation: float = Field(15.0, ge=0, le=180, description="largest turn of an object from upright, degrees")
    labels: Literal["auto", "none"] = Field("auto", description="auto: the class is the object; none: unlabelled")

    @property
    def side(self) -> int:
        """Side of the images, pixels."""
        return ShapeSize

    def classes(self) -> int:
        """Five objects, 0 when unlabelled."""
        return 5 if self.labels == "auto" else 0

    def held(self, images: int) -> int:
        """Return the bytes of the rendered scenes, each of which is kept."""
        return images * 3 * ShapeSize**2


@register("data", "folder", builds=".folder:ImageFolder")
class FolderSettings(EncodedImageSettings):
    """Any tree of image files: the first sub-folder is the class, or the images are unlabelled.

    Files of every format that Pillow reads; hidden files and folders and those of systems are passed over.
    """

    places: ClassVar[tuple[str, ...]] = ("root",)

    root: Path = Field(description="folder that is searched, with everything below it")
    labels: Literal["auto", "none"] = Field(
        "auto", description="auto: classes if the images lie in sub-folders; none: unlabelled"
    )

    @property
    def folder(self) -> Path:
        """The root, with `~` expanded."""
        return expanded(self.root)

    @cached_property
    def tree(self) -> Tree:
        """What lies below the folder; it is searched once."""
        return find_images(self.folder)

    def classes(self) -> int:
        """Return the number of sub-folders that hold images, 0 when unlabelled."""
        return len(classes_of(self.tree).names) if self.labels == "auto" else 0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the folder."""
        where = printable(str(self.folder))
        try:
            is_folder = stat.S_ISDIR(self.folder.stat().st_mode)
        except FileNotFoundError:
            yield "root", f"there is no folder {where}"
            return
        except OSError as error:
            yield "root", f"{where} cannot be read: {error.strerror}"
            return
        if not is_folder:
            yield "root", f"{where} is not a folder"
        elif self.tree.problems:
            yield "root", f"{named(self.tree.problems)}; its images would be missing"
        elif not self.tree.images:
            others = f"; other files: {self.tree.other_files()}" if self.tree.others else ""
            yield "root", f"no image file (.jpg, .png, .webp, .tif, ...) below {where}{others}"


@register("data", "webdataset", builds=".webdataset:WebDataset")
class WebDatasetSettings(EncodedImageSettings):
    """Tar shards of images, on this machine or behind addresses; labels from .cls or the `label` of .json.

    Files of a sample share the name up to its first dot.

    Remote shards are fetched whole when a run begins, and kept.
    """

    places: ClassVar[tuple[str, ...]] = ("shards", "cache")

    shards: tuple[str, ...] = Field(
        min_length=1, description="files or addresses (https://, hf://, s3://), with {000..012} or *; one or a list"
    )
    cache: Path | None = Field(
        None, description="folder for fetched shards and indexes; default: latsem/webdataset in the user's cache folder"
    )
    image: str | None = Field(
        None, min_length=1, description="extension of the images (jpg, input.jpg), where samples have several"
    )

    @field_validator("shards", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    def anchored(self) -> Self:
        """Return the same with absolute paths, those of the shards among them; addresses stay."""
        shards = tuple(each if is_address(each) else str(expanded(each).absolute()) for each in self.shards)
        return super().anchored().model_copy(update={"shards": shards})

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the shards' names, and files that are not there; no address is asked."""
        try:
            names = expand_all(self.shards)
        except ValueError as error:
            yield "shards", str(error)
            return
        compressed = [name for name in names if name.endswith((".gz", ".tgz", ".bz2", ".xz", ".zst"))]
        missing = [name for name in names if not is_address(name) and not local_files(name)]
        if compressed:
            yield "shards", f"{compressed[0]}: compressed shards cannot be read at any place; unpack it to a plain .tar"
        elif missing:
            yield "shards", f"there is no file {missing[0]} ({len(missing):,} of {len(names):,} shards are missing)"


@register("data", "huggingface", builds=".huggingface:HuggingFaceDataset")
class HuggingFaceSettings(EncodedImageSettings):
    """A dataset of the Hugging Face hub, or a local one (save_to_disk, parquet, a folder); needs `datasets`."""

    places: ClassVar[tuple[str, ...]] = ("dataset",)

    dataset: str = Field(min_length=1, description="name on the hub, or a folder or parquet file of this machine")
    subset: str | None = Field(None, description="configuration, for datasets of the hub that have several")
    split: str = Field("train", min_length=1, description="split of the dataset")
    image: str | None = Field(None, description="column of the images (or of their bytes); default: the only one")
    label: str | None = Field(
        None,
        description="column of the classes; default: the only one of class labels, or of whole numbers called label",
    )

    @property
    def local(self) -> Path | None:
        """The dataset on this machine, None for a name on the hub."""
        path = expanded(self.dataset)
        return path if path.exists() else None

    def anchored(self) -> Self:
        """Return the same with the absolute path of a dataset on this machine."""
        local, same = self.local, super().anchored()
        return same if local is None else same.model_copy(update={"dataset": str(local.absolute())})

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is missing on this machine; the hub is not asked."""
        if importlib.util.find_spec("datasets") is None:
            yield "dataset", f"data '{self.name}' {INSTALL_DATASETS}"
        elif self.local is None and (self.dataset.startswith(("/", ".", "~")) or self.dataset.count("/") > 1):
            yield "dataset", f"there is no file or folder {self.dataset}"
