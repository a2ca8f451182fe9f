"""The centre crop of image diffusion on ImageNet."""

from __future__ import annotations

from PIL import Image

LARGEST_PICTURE = 89_478_485
"""Pixels of the largest picture that is worked on at full size, a quarter of a GiB in RGB: Pillow's own limit."""


class UnsupportedPicture(ValueError):  # noqa: N818
    """A picture that may be whole, and cannot be used; the message says why."""


class OversizedPicture(UnsupportedPicture):
    """More pixels than a picture of a data set has: a mistake, or a file made to exhaust the memory."""


def check_area(width: int, height: int, most: int) -> None:
    """Refuse a picture without pixels, or with too many.

    Raises:
        OversizedPicture: more than `most` pixels.
        ValueError: no pixels.
    """
    if min(width, height) < 1:
        raise ValueError(f"a picture of {width}x{height} pixels")
    if width * height > most:
        raise OversizedPicture(f"too large: {width}x{height} pixels, allowed are {most:,} (data.max_pixels)")


def centre_crop(picture: Image.Image, size: int) -> Image.Image:
    """Return the centre of an RGB picture as `size` x `size` pixels, the way of ADM (Dhariwal and Nichol, 2021).

    The picture is halved (box filter) while its short side is at least `2 * size`, then resized (bicubic) until the
    short side is `size`, then cropped at whole pixels. DiT, SiT, ReDi and JiT train on these pixels, and the
    statistics by which they are scored are of them.

    Raises:
        OversizedPicture: a very long and thin picture that would be blown up to too many pixels.
    """
    while min(picture.size) >= 2 * size:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    # The factor is rounded once, then each side: any other order of the same arithmetic differs at halves.
    factor = size / min(picture.size)
    width, height = round(picture.width * factor), round(picture.height * factor)
    if width * height > LARGEST_PICTURE:
        raise OversizedPicture(f"too long and thin: {picture.width}x{picture.height} pixels")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return picture if width == height else picture.crop((left, top, left + size, top + size))
