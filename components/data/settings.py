"""Settings of the data sources."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field

from ..registry import register
from ..settings import Settings
from .files import class_names, find_images

ShapeSize = 32


class DataSettings(Settings):
    """Base of every data source's settings; `image_size` is the side of the square images it gives."""

    expect_images: int | None = Field(None, ge=1, description="number of images that must be found; empty: any")
    expect_classes: int | None = Field(None, ge=0, description="number of classes that must be found; empty: any")

    @property
    def side(self) -> int:
        """Side of the images, pixels."""
        raise NotImplementedError

    def classes(self) -> int:
        """Return the number of classes, 0 for unlabelled images."""
        raise NotImplementedError

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


@register("data", "folder", builds=".folder:ImageFolder")
class FolderSettings(DataSettings):
    """Any tree of image files: the first sub-folder is the class, or the images are unlabelled."""

    root: Path = Field(description="folder that is searched, with everything below it")
    image_size: int = Field(32, ge=8, le=2048, description="side after resizing the short edge and centre crop")
    labels: Literal["auto", "none"] = Field(
        "auto", description="auto: classes if every image lies in a sub-folder; none: unlabelled"
    )
    flip: bool = Field(True, description="mirror half of the images, another half every epoch")
    max_unreadable: float = Field(0.01, ge=0, le=1, description="share of unreadable files that is put up with")

    @property
    def side(self) -> int:
        """Side of the images, pixels."""
        return self.image_size

    @property
    def folder(self) -> Path:
        """The root, with `~` expanded."""
        return self.root.expanduser()

    @cached_property
    def images(self) -> tuple[Path, ...]:
        """The image files, relative to the folder; it is searched once."""
        return find_images(self.folder)

    def classes(self) -> int:
        """Return the number of sub-folders that hold images, 0 when unlabelled."""
        return len(class_names(self.images)) if self.labels == "auto" else 0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the folder."""
        if not self.folder.is_dir():
            yield "root", f"there is no folder {self.folder}"
        elif not self.images:
            yield "root", f"no image file (.jpg, .png, .webp, .bmp) below {self.folder}"
