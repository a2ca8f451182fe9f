"""Pictures as data URIs, small enough for a page that holds many of them."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...components.messages import first_line
from ..files import UnreadableFile, read_bytes, regular_file

WIDEST = 1400
SMALLER = 700
QUALITY = 82
PNG_BYTES = 400_000
"""A PNG of photographs that takes more than this becomes a JPEG; pixels that were enlarged stay what they are."""


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
        UnreadableFile: it cannot be read, is no picture, or is larger than any that a run draws.
    """
    content = read_bytes(path)
    with _opened(io.BytesIO(content), path) as opened:
        picture = opened.convert("RGB")
    factor = enlarged_by(picture)
    narrows = picture.width > widest
    if narrows:
        factor = factor if picture.width // factor <= widest else 1
        picture = _narrowed(picture, factor, widest)
    kind = "png"
    if factor == 1 and (narrows or len(content) > PNG_BYTES):
        kind, content = "jpeg", _encoded(picture, "JPEG")
    elif narrows:
        content = _encoded(picture, "PNG")
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return Picture(uri, picture.width, picture.height, caption, alt)


def embedded_height(path: Path, widest: int = WIDEST) -> int:
    """Return how high a picture will be; only its header is read.

    Raises:
        UnreadableFile: as `embed`.
    """
    with regular_file(path), _opened(path, path) as picture:
        return round(picture.height * min(1.0, widest / picture.width))


def enlarged_by(picture: Image.Image) -> int:
    """Return by what factor a picture was enlarged pixel by pixel: what divides all places where something changes."""
    pixels = np.asarray(picture)
    rows, columns = ((pixels[1:] != pixels[:-1]).any((1, 2)), (pixels[:, 1:] != pixels[:, :-1]).any((0, 2)))
    places = [np.flatnonzero(changes) + 1 for changes in (rows, columns)]
    return math.gcd(*pixels.shape[:2], *np.concatenate(places).tolist())


@contextmanager
def _opened(source: Path | io.BytesIO, path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            # Pictures of a long run are large, and our own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield Image.open(source)
    except Exception as error:  # Pillow's decoders fail in many ways.
        raise UnreadableFile(f"{path}: damaged ({first_line(error)})") from None


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
