"""Pictures as data URIs, small enough for a page that holds many of them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

WIDEST = 1400
SMALLER = 700
QUALITY = 82
PNG_BYTES = 400_000
"""A PNG of photographs that takes more than this becomes a JPEG; pixels that were enlarged stay what they are."""
LARGEST_FACTOR = 16


@dataclass(frozen=True)
class Picture:
    """A picture in a page.

    Attributes:
        uri: the picture itself.
        width, height: in pixels, as embedded.
        caption: what is under it.
        alt: what it shows, for those who do not see it.
    """

    uri: str
    width: int
    height: int
    caption: str
    alt: str


def embed(path: Path, *, caption: str, alt: str, widest: int = WIDEST) -> Picture:
    """Return a picture file as a data URI, at most so wide.

    Raises:
        OSError: the file cannot be read, or is no picture.
    """
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as opened:
        picture = opened.convert("RGB")
    factor = enlarged_by(picture)
    if picture.width // factor > widest:
        factor = 1
    if picture.width > widest:
        picture = _narrowed(picture, factor, widest)
        content = _encoded(picture, "PNG")
    kind = "png"
    if factor == 1 and len(content) > PNG_BYTES:
        kind, content = "jpeg", _encoded(picture, "JPEG")
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return Picture(uri, picture.width, picture.height, caption, alt)


def enlarged_by(picture: Image.Image) -> int:
    """Return by what factor a picture was enlarged pixel by pixel; 1 if it was not."""
    pixels = np.asarray(picture)
    height, width = pixels.shape[:2]
    for factor in range(LARGEST_FACTOR, 1, -1):
        if height % factor == 0 and width % factor == 0 and _repeats(pixels, factor):
            return factor
    return 1


def _repeats(pixels: np.ndarray, factor: int) -> bool:
    return all(
        np.array_equal(pixels[0::factor], pixels[shift::factor])
        and np.array_equal(pixels[:, 0::factor], pixels[:, shift::factor])
        for shift in range(1, factor)
    )


def _narrowed(picture: Image.Image, factor: int, widest: int) -> Image.Image:
    """Return a picture at most so wide; an enlarged one by whole factors, so that no pixel is blurred."""
    if factor > 1:
        single = (picture.width // factor, picture.height // factor)
        whole = widest // single[0]
        return picture.resize((single[0] * whole, single[1] * whole), Image.Resampling.NEAREST)
    height = max(1, round(picture.height * widest / picture.width))
    return picture.resize((widest, height), Image.Resampling.LANCZOS)


def _encoded(picture: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=kind, quality=QUALITY)
    return stream.getvalue()
