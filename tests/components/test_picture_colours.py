"""Colours of pictures: profiles, inks, Lab and gamma are taken to sRGB."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from picture_files import AS_STORED, SIDE, colours, encoded, grey, png
from PIL import Image, ImageCms

from latsem.components.data.picture import decode


def curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def profile(space: bytes, tags: dict[bytes, bytes], *, of: bytes = b"mntr", between: bytes = b"XYZ ") -> bytes:
    """Return an ICC profile, version 2."""
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(79)
    tags = {b"desc": text, b"cprt": b"text" + bytes(4) + b"none", b"wtpt": xyz(0.9642, 1, 0.8249), **tags}
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    white = struct.pack(">3i", 63190, 65536, 54061)
    head = struct.pack(">I4xI", start + len(body), 0x02200000) + of + space + between
    return head.ljust(36, b"\0") + b"acsp" + bytes(28) + white + bytes(48) + table + body


ADOBE = profile(
    b"RGB ",
    {
        b"rXYZ": xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": xyz(0.14919, 0.06322, 0.74457),
        **{name + b"TRC": curve(2.2) for name in (b"r", b"g", b"b")},
    },
)
DARK_GREY = profile(b"GRAY", {b"kTRC": curve(1.0)})


def ink_profile() -> bytes:
    """Return a profile of four inks whose colours (Lab) at full and no ink are made up."""
    ramp = bytes(range(256))
    lab = b"".join(
        bytes([255 - 60 * (c + m + y) // 2 - 60 * k, 128 - 40 * c + 40 * m, 128 + 50 * y - 20 * c])
        for c, m, y, k in np.ndindex(2, 2, 2, 2)
    )
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + lab + ramp * 3
    return profile(b"CMYK", {b"A2B0": table}, of=b"prtr", between=b"Lab ")


INKS = ink_profile()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def by_littlecms(picture: Image.Image, icc: bytes) -> list[int]:
    opened = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    shown = ImageCms.profileToProfile(picture, opened, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert shown is not None
    return list(shown.getpixel((0, 0)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "mode", "colour", "icc"),
    [
        ("PNG", "RGB", (90, 180, 60), ADOBE),
        ("WEBP", "RGB", (90, 180, 60), ADOBE),
        ("TIFF", "RGB", (90, 180, 60), ADOBE),
        ("PNG", "L", 60, DARK_GREY),
        ("TIFF", "CMYK", (30, 200, 100, 20), INKS),
    ],
)
def test_colours_are_taken_to_srgb(kind: str, mode: str, colour: tuple[int, ...], icc: bytes) -> None:
    picture = Image.new(mode, (SIDE, SIDE), colour)
    expected = by_littlecms(picture, icc)
    exact: dict[str, object] = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(picture, kind, icc_profile=icc, **exact)
    plain = list(picture.convert("RGB").getpixel((0, 0)))  # type: ignore[arg-type]
    assert colours(content)[0] == expected and expected != plain
    assert colours(content, AS_STORED)[0] == plain


def test_a_jpeg_of_four_inks_is_shown_by_its_profile() -> None:
    content = encoded(Image.new("CMYK", (SIDE, SIDE), (30, 200, 100, 20)), "JPEG", quality=100, icc_profile=INKS)
    with Image.open(io.BytesIO(content)) as stored:
        assert colours(content)[0] == by_littlecms(stored, INKS)
    naive = encoded(Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)), "JPEG", quality=100)
    assert colours(naive)[0] == [255, 0, 0]


def test_a_profile_goes_with_any_mode_that_holds_its_colours() -> None:
    expected = by_littlecms(Image.new("RGB", (1, 1), (100, 100, 100)), ADOBE)
    for mode, colour in (("L", 100), ("RGBA", (100, 100, 100, 255)), ("LA", (100, 255))):
        assert colours(encoded(Image.new(mode, (SIDE, SIDE), colour), icc_profile=ADOBE))[0] == expected
    palette = encoded(Image.new("RGB", (SIDE, SIDE), (90, 180, 60)).quantize(), icc_profile=ADOBE)
    assert colours(palette)[0] == by_littlecms(Image.new("RGB", (1, 1), (90, 180, 60)), ADOBE)
    deep = encoded(Image.fromarray(np.full((SIDE, SIDE), 60 * 257, np.uint16)), icc_profile=DARK_GREY)
    assert colours(deep)[0] == by_littlecms(Image.new("L", (1, 1), 60), DARK_GREY)
    see_through = encoded(Image.new("RGBA", (SIDE, SIDE), (90, 180, 60, 0)), icc_profile=ADOBE)
    assert colours(see_through)[0] == grey(255)
    for mode, colour, icc in (("RGB", (90, 180, 60), DARK_GREY), ("RGB", (90, 180, 60), INKS), ("L", 9, INKS)):
        picture = Image.new(mode, (SIDE, SIDE), colour)
        assert colours(encoded(picture, icc_profile=icc))[0] == list(picture.convert("RGB").getpixel((0, 0)))  # type: ignore[arg-type]


def test_srgb_by_name_keeps_every_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    assert np.array_equal(decode(encoded(Image.fromarray(pixels), icc_profile=SRGB), SIDE), pixels)


def test_lab_is_shown() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    picture = ImageCms.profileToProfile(Image.new("RGB", (SIDE, SIDE), (200, 30, 40)), srgb, lab, outputMode="LAB")
    assert picture is not None
    assert np.abs(np.array(colours(encoded(picture, "TIFF"))[0]) - (200, 30, 40)).max() <= 3, "8 bits of Lab"


def test_the_gamma_of_a_png_counts_where_nothing_else_is_said() -> None:
    def gamma(value: int) -> tuple[bytes, bytes]:
        return b"gAMA", struct.pack(">I", value)

    row = bytes([128]) * SIDE
    linear = 255 * (1.055 * (128 / 255) ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    assert colours(png(8, 0, row, gamma(100_000)))[0] == grey(round(linear))
    assert colours(png(8, 0, row, gamma(100_000)), AS_STORED)[0] == grey(128)
    assert colours(png(8, 0, row, gamma(45_455)))[0] == grey(128)
    assert colours(png(8, 0, row, gamma(0)))[0] == grey(128)
    assert colours(png(8, 0, row, (b"sRGB", b"\0"), gamma(100_000)))[0] == grey(128)
