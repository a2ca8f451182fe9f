"""Picture formats that are read, by content and by a file's ending."""

from __future__ import annotations

from functools import cache

COMMON = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

NOT_PICTURES = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "FITS", "IPTC", "XVTHUMB"})
"""Formats of Pillow's that are left out: programs to be run (EPS, WMF), films, scientific data, parts of a file."""


@cache
def formats() -> tuple[str, ...]:
    """Return Pillow's formats, those of its plug-ins too, but for `NOT_PICTURES`; the common ones first."""
    # Loaded here: settings are looked at without it.
    from PIL import Image  # noqa: PLC0415

    Image.init()
    others = (name for name in Image.ID if name not in NOT_PICTURES and name not in COMMON)
    return (*(name for name in COMMON if name in Image.OPEN), *others)


@cache
def suffixes() -> frozenset[str]:
    """Return the endings of picture files, in lower case with their dot."""
    from PIL import Image  # noqa: PLC0415

    # A multi-picture file is opened as the JPEG that it begins with.
    read = {*formats(), "MPO"}
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in read)
