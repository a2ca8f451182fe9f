"""What every data source gives."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Source(Protocol):
    """A fixed set of images.

    Attributes:
        num_classes: number of classes, 0 for unlabelled images.
        image_size: side of the square images, pixels.
        class_names: a name for each class.
    """

    num_classes: int
    image_size: int
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def item(self, index: int, seed: int) -> tuple[Tensor, int]:
        """Return image `(3, H, W)` uint8 and label; the same index and (augmentation) seed give the same pixels."""
        ...

    def describe(self) -> str:
        """Return one line for the start-up screen: what was found."""
        ...


def to_unit(image: Tensor) -> Tensor:
    """Map uint8 pixels to float in [-1, 1]."""
    return image.float().div_(127.5).sub_(1.0)


def to_pixels(image: Tensor) -> Tensor:
    """Map floats in [-1, 1] to uint8 pixels, rounding to the nearest and clipping what lies outside."""
    return image.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).byte()
