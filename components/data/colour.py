"""Colours of pictures in sRGB, which is what networks are trained on and screens expect."""

from __future__ import annotations

import io
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageCms

SCREEN_GAMMA = 2.2
SAME_GAMMA = 0.05
"""libpng's PNG_GAMMA_THRESHOLD: products of file and screen gamma this near to 1 are left alone."""

SAME_LEVELS = 1
"""A profile that moves no colour by more than this is sRGB itself, rounded."""

PROFILES_KEPT = 16

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Modes of pictures that profiles of each colour space are for."""


def to_srgb(picture: Image.Image, profile: bytes | None = None, gamma: float | None = None) -> Image.Image:
    """Return a picture of 8 bits without opacity in RGB.

    Args:
        profile: ICC profile of its colours; one that is damaged or of other colours is passed over, as viewers do.
        gamma: what a PNG says of its levels, where there is no profile.
    """
    if picture.mode == "LAB":
        return _applied(_from_lab(), picture)
    mode, transform = _transform(profile) if profile else ("", None)
    prepared = _in_mode(picture, mode) if transform is not None else None
    if prepared is not None and transform is not None:
        return _applied(transform, prepared)
    levels = gamma_levels(gamma) if gamma is not None else None
    shown = picture if picture.mode == "RGB" else picture.convert("RGB")
    return shown if levels is None else shown.point(levels * 3)


def gamma_levels(gamma: float) -> list[int] | None:
    """Return what the levels 0 to 255 of a PNG with a gamma are in sRGB; None: what they are.

    PNG (third edition, 11.3.2.2): level = light ** gamma. sRGB: IEC 61966-2-1.
    """
    if not 0.01 <= gamma <= 100 or abs(gamma * SCREEN_GAMMA - 1) < SAME_GAMMA:
        return None
    light = (np.arange(256) / 255) ** (1 / gamma)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * srgb).astype(int).tolist()


def _in_mode(picture: Image.Image, mode: str) -> Image.Image | None:
    """Return a picture in the mode that its profile is for, None if it is of other colours."""
    if mode == "CMYK" or picture.mode == "CMYK":
        return picture if picture.mode == mode else None
    if mode == "RGB":
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    if picture.mode in ("L", "1"):
        return picture.convert("L")
    red, green, blue = picture.convert("RGB").split()
    grey = all(ImageChops.difference(red, other).getbbox() is None for other in (green, blue))
    return red if grey else None


def _applied(transform: ImageCms.ImageCmsTransform, picture: Image.Image) -> Image.Image:
    shown = ImageCms.applyTransform(picture, transform)
    assert shown is not None
    return shown


@lru_cache(maxsize=PROFILES_KEPT)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return the mode that a profile is for and what takes it to sRGB, nothing if it is sRGB, damaged or of no use."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES.get(opened.profile.xcolor_space.strip(), "")
        if not mode:
            return "", None
        transform = ImageCms.buildTransform(opened, _srgb(), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return "", None
    return mode, transform if mode == "CMYK" or _moves(transform, mode) else None


def _moves(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return whether a transform changes colours by more than rounding: judged on a grid of them."""
    steps = np.arange(0, 256, 17 if mode == "RGB" else 1, dtype=np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3) if mode == "RGB" else steps[None]
    colours = Image.fromarray(np.ascontiguousarray(grid))
    before = np.asarray(colours.convert("RGB")).astype(int)
    return int(np.abs(np.asarray(_applied(transform, colours)) - before).max()) > SAME_LEVELS


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _from_lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb(), "LAB", "RGB")
