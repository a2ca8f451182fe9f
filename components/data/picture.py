"""From the bytes of a picture to pixels in RGB and 8 bits, as an image viewer shows them.

Everything that reads somebody's pictures goes through here: folders, shards, datasets, references, `latsem features`.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from .colour import to_srgb
from .crop import LARGEST_PICTURE, UnsupportedPicture, centre_crop, check_area
from .formats import formats
from .settings import DataSettings, EncodedImageSettings

DECODING = 2
"""Version of what is made of a file's bytes: a part of every fingerprint, so that caches and runs notice a change."""

LARGEST_FILE = 256 * 2**20
"""Bytes of the largest encoded image that is read."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation (EXIF 2.32, tag 274); 1 is upright."""

_LOW_DEPTHS = {"L;2": 85, "L;4": 17}
"""Pillow spreads grey levels of 2 and 4 bits to 8, and leaves a PNG's transparent level as it is."""

_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


@dataclass(frozen=True)
class Decoding:
    """How encoded pictures become pixels.

    Attributes:
        metadata: whether EXIF orientation, colour profiles and gamma are applied, as viewers do.
        background: RGB colour behind transparent pixels.
        max_pixels: pixels of the largest picture.
    """

    metadata: bool = True
    background: tuple[int, int, int] = (255, 255, 255)
    max_pixels: int = EncodedImageSettings.model_fields["max_pixels"].default


AS_VIEWERS_DO = Decoding()


def decoding_of(settings: DataSettings) -> Decoding:
    """Return how the settings of a source ask for pictures to be decoded; viewers' way if it does not decode any."""
    if not isinstance(settings, EncodedImageSettings):
        return AS_VIEWERS_DO
    return Decoding(settings.metadata == "apply", settings.background_colour, settings.max_pixels)


def decode(encoded: bytes, size: int, decoding: Decoding = AS_VIEWERS_DO) -> np.ndarray:
    """Return the pixels `(size, size, 3)` uint8 of an encoded picture, or its first frame, cropped as ADM does.

    Raises:
        ValueError: it is damaged, no picture, too large, or of pixels without a stated white (32 bits).
    """
    if len(encoded) > LARGEST_FILE:
        raise ValueError(f"more than {LARGEST_FILE:,} bytes")
    try:
        # Pillow would warn of size, which `check_area` refuses, and of odd notes, which nobody reads, at every picture.
        with warnings.catch_warnings(action="ignore"), _opened(io.BytesIO(encoded), decoding) as file:
            if file.format == "JPEG" and file.width * file.height > LARGEST_PICTURE:
                # The largest photos are decoded at a half, quarter or eighth: in a fraction of the memory.
                file.draft(None, (2 * size, 2 * size))
            return np.asarray(centre_crop(_shown(file, decoding), size))
    except UnsupportedPicture:
        raise
    except UnidentifiedImageError:
        raise ValueError("not a picture of a known format") from None
    except Exception as error:  # Decoders of damaged files fail in many ways: struct.error, EOFError, IndexError, ...
        raise ValueError(f"{type(error).__name__}: {error}") from None


def check_header(file: IO[bytes], decoding: Decoding) -> None:
    """Read the header of a picture, not its pixels.

    Raises:
        ValueError: as `decode`, as far as the header tells.
        Exception: of many kinds, for a damaged header.
    """
    # Warnings are for the caller to silence: that is not safe in threads.
    _opened(file, decoding).close()


def _opened(file: IO[bytes], decoding: Decoding) -> Image.Image:
    """Return a picture whose header has been read, and is one of a picture that can be shown."""
    try:
        picture: Image.Image = Image.open(file, formats=formats())
    except Image.DecompressionBombError:
        with _PILLOWS_LIMIT.lifted():
            picture = Image.open(file, formats=formats())
    check_area(*picture.size, decoding.max_pixels)
    if picture.mode == "F" or (picture.mode == "I" and picture.format not in ("PNG", "PPM")):
        kind = "floating-point numbers" if picture.mode == "F" else "whole numbers with a sign or of 32 bits"
        raise UnsupportedPicture(f"pixels are {kind}, which have no agreed white: convert to 8 or 16 bits")
    return picture


def _shown(file: Image.Image, decoding: Decoding) -> Image.Image:
    """Return an opened picture in RGB: upright, in sRGB, on the background."""
    _mend_transparent_level(file)
    file.load()
    picture, alpha = _without_alpha(file)
    picture = to_srgb(picture, *(_stated_colours(file) if decoding.metadata else ()))
    if alpha is not None:
        ground = Image.new("RGB", picture.size, decoding.background)
        ground.paste(picture, mask=alpha)
        picture = ground
    turn = _TURNS.get(_orientation(file)) if decoding.metadata else None
    return picture.transpose(turn) if turn is not None else picture


def _stated_colours(file: Image.Image) -> tuple[bytes | None, float | None]:
    """Return a picture's ICC profile and, without one, the gamma of a PNG that does not call itself sRGB."""
    profile: bytes | None = file.info.get("icc_profile") or None
    states_gamma = file.format == "PNG" and profile is None and "srgb" not in file.info
    return profile, file.info.get("gamma") if states_gamma else None


def _orientation(file: Image.Image) -> int:
    if file.format == "JPEG" and not file.info.keys() & {"exif", "xmp"}:
        return 1
    try:
        return int(file.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Damaged notes fail in many ways, and none of them keeps a viewer from showing the picture.
        return 1


def _mend_transparent_level(file: Image.Image) -> None:
    """Bring the transparent colour of a PNG to the scale that Pillow brings its pixels to."""
    level = file.info.get("transparency")
    if level is None or file.format != "PNG" or not (tiles := getattr(file, "tile", None)):
        return
    packed = str(tiles[0][3])
    if isinstance(level, int) and packed in _LOW_DEPTHS:
        file.info["transparency"] = min(level * _LOW_DEPTHS[packed], 255)
    elif isinstance(level, tuple) and packed == "RGB;16B":
        file.info["transparency"] = tuple(value >> 8 for value in level)


def _without_alpha(file: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return a picture of 8 bits without its opacity, and that (mode L), if it has one."""
    if file.mode.startswith("I"):
        return _from_16_bits(file)
    see_through = file.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in file.info
    if not see_through and not (file.mode == "P" and file.palette is not None and file.palette.mode.endswith("A")):
        return file, None
    straight = {"La": "LA", "RGBa": "RGBA"}.get(file.mode)
    whole = (file.convert(straight) if straight else file).convert("RGBA")
    alpha = whole.getchannel("A")
    picture = whole.getchannel("R") if file.mode in ("1", "L", "LA", "La") else whole.convert("RGB")
    return picture, None if alpha.getextrema() == (255, 255) else alpha


def _from_16_bits(file: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return a grey picture of up to 16 bits in 8, rounded to the nearest, and its opacity."""
    values, tags = np.asarray(file), getattr(file, "tag_v2", {})
    white = 2 ** min(16, tags.get(_TIFF_BITS, (16,))[0]) - 1
    levels = ((510 * np.arange(white + 1) + white) // (2 * white)).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        levels = levels[::-1]
    key = file.info.get("transparency")
    alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)) if isinstance(key, int) else None
    return Image.fromarray(np.take(levels, values, mode="clip")), alpha


class _PillowsLimit:
    """Pillow's limit of pixels: one for the whole process, and lower than ours."""

    def __init__(self) -> None:
        self._lock, self._inside, self._kept = threading.Lock(), 0, Image.MAX_IMAGE_PIXELS

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Lift it until the last thread has left."""
        with self._lock:
            if not self._inside:
                self._kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    Image.MAX_IMAGE_PIXELS = self._kept


_PILLOWS_LIMIT = _PillowsLimit()
