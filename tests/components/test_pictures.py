"""From a file's bytes to pixels: what an image viewer shows, whatever the file is like."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from picture_files import AS_STORED, SIDE, colours, encoded, grey, png, tiff
from PIL import Image
from pydantic import ValidationError

from latsem.backends.features import read_pictures
from latsem.components.data.formats import formats, suffixes
from latsem.components.data.picture import AS_VIEWERS_DO, Decoding, decode, decoding_of
from latsem.components.data.settings import FolderSettings, ShapesSettings
from latsem.components.registry import create

RAMP = np.tile(np.linspace(0, 65535, SIDE).round().astype(np.uint16), (SIDE, 1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_grey_of_16_bits_spans_black_to_white(kind: str) -> None:
    shown = decode(encoded(Image.fromarray(RAMP), kind), SIDE)
    assert np.array_equal(shown[..., 0], np.rint(RAMP / 257).astype(np.uint8))
    assert (shown[..., 0] == shown[..., 1]).all() and (shown[..., 0] == shown[..., 2]).all()


def test_8_bits_stored_in_16_come_back() -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    assert np.array_equal(decode(encoded(Image.fromarray(levels * 257)), 16)[..., 0], levels)
    wide = np.stack([levels, levels[::-1], levels.T], -1)
    assert np.array_equal(decode(tiff(wide * 257, 2), 16), wide)


def test_a_tiff_whose_white_is_zero_is_not_shown_as_a_negative() -> None:
    assert colours(tiff(RAMP[..., None], 0)) == (grey(255), grey(0))
    assert colours(tiff((RAMP[..., None] >> 8).astype(np.uint8), 0)) == (grey(255), grey(0))
    assert colours(encoded(Image.new("1", (SIDE, SIDE), 1), "TIFF", compression="group4")) == (grey(255), grey(255))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_numbers_without_a_white_are_refused_with_the_reason(kind: type, tmp_path: Path) -> None:
    content = encoded(Image.fromarray(RAMP.astype(kind)), "TIFF")
    with pytest.raises(ValueError, match="have no agreed white: convert to 8 or 16 bits"):
        decode(content, SIDE)
    (tmp_path / "depth.tif").write_bytes(content)
    with pytest.raises(OSError, match=r"1 of 1 image files .* \(depth.tif: pixels are .* no agreed white"):
        create("data", "folder", root=tmp_path)


UPRIGHT = np.zeros((SIDE, SIDE, 3), np.uint8)
UPRIGHT[: SIDE // 2] = (200, 120, 40)
UPRIGHT[:, : SIDE // 2] //= 2
ORIENTED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT, 1),
    7: np.rot90(UPRIGHT[::-1], 1),
    8: np.rot90(UPRIGHT, -1),
}
"""How the upright picture is stored for each orientation (EXIF 2.32, figure 7)."""


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
def test_pictures_are_upright(kind: str, orientation: int) -> None:
    stored = np.ascontiguousarray(ORIENTED[orientation])
    picture = Image.fromarray(stored)
    picture.getexif()[0x0112] = orientation
    exact: dict[str, object] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    content = encoded(picture, kind, exif=picture.getexif(), **exact)
    within = {"JPEG": 6, "AVIF": 40}.get(kind, 0)
    assert np.abs(decode(content, SIDE).astype(int) - UPRIGHT).max() <= within
    if kind != "TIFF":  # Pillow itself turns these
        assert np.abs(decode(content, SIDE, AS_STORED).astype(int) - stored).max() <= within


def test_damaged_notes_do_not_cost_the_picture() -> None:
    plain = Image.new("RGB", (SIDE, SIDE), (10, 100, 200))
    whole = decode(encoded(plain, "JPEG"), SIDE)
    for notes in ({"exif": b"Exif\0\0II*\0garbage"}, {"icc_profile": b"garbage" * 30}, {"icc_profile": b""}):
        assert np.array_equal(decode(encoded(plain, "JPEG", **notes), SIDE), whole)


u16 = struct.Struct(">H").pack

TRANSPARENT = {
    "RGBA": encoded(Image.new("RGBA", (SIDE, SIDE), (200, 0, 0, 0))),
    "LA": encoded(Image.new("LA", (SIDE, SIDE), (9, 0))),
    "RGBA of 16 bits": png(16, 6, (u16(60000) * 3 + u16(0)) * SIDE),
    "LA of 16 bits": png(16, 4, (u16(60000) + u16(0)) * SIDE),
    "palette": png(8, 3, bytes(SIDE), (b"PLTE", bytes([255, 0, 0])), (b"tRNS", b"\0")),
    "level of 1 bit": png(1, 0, b"\0", (b"tRNS", u16(0))),
    "level of 2 bits": png(2, 0, b"\x55\x55", (b"tRNS", u16(1))),
    "level of 4 bits": png(4, 0, b"\x77" * 4, (b"tRNS", u16(7))),
    "level of 8 bits": png(8, 0, bytes([77]) * SIDE, (b"tRNS", u16(77))),
    "level of 16 bits": png(16, 0, u16(1000) * SIDE, (b"tRNS", u16(1000))),
    "colour": png(8, 2, bytes([7, 8, 9]) * SIDE, (b"tRNS", u16(7) + u16(8) + u16(9))),
    "colour of 16 bits": png(16, 2, (u16(700) + u16(8) + u16(65535)) * SIDE, (b"tRNS", u16(700) + u16(8) + u16(65535))),
    "WebP": encoded(Image.new("RGBA", (SIDE, SIDE), (200, 0, 0, 0)), "WEBP"),
    "GIF": encoded(Image.new("RGBA", (SIDE, SIDE), (200, 0, 0, 0)), "GIF"),
    "ICO": encoded(Image.new("RGBA", (16, 16), (200, 0, 0, 0)), "ICO"),
    "TIFF": tiff(np.full((SIDE, SIDE, 4), (200, 0, 0, 0), np.uint8), 2, 2),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_what_is_transparent_shows_the_background(kind: str) -> None:
    assert colours(TRANSPARENT[kind]) == (grey(255), grey(255))
    assert colours(TRANSPARENT[kind], Decoding(background=(1, 2, 3))) == ([1, 2, 3], [1, 2, 3])


def test_what_is_half_transparent_is_mixed_with_the_background() -> None:
    pixels = np.full((SIDE, SIDE, 4), (255, 0, 0, 128), np.uint8)
    for content in (encoded(Image.fromarray(pixels)), tiff(pixels, 2, 2)):
        assert colours(content)[0] == [255, 127, 127]
    premultiplied = np.full((SIDE, SIDE, 4), (128, 0, 0, 128), np.uint8)
    assert colours(tiff(premultiplied, 2, 1))[0] == [255, 127, 127]
    assert colours(tiff(np.full((SIDE, SIDE, 2), (64, 128), np.uint8), 1, 1))[0] == grey(191)
    assert colours(tiff(pixels, 2, 0))[0] == [255, 0, 0], "a fourth sample that is not opacity"
    half = png(8, 3, bytes(SIDE), (b"PLTE", bytes([255, 0, 0])), (b"tRNS", b"\x80"))
    assert colours(half)[0] == [255, 127, 127]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "MPO"])
def test_the_first_of_several_frames_is_shown(kind: str) -> None:
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "lime", "blue")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(np.array(colours(content)[0]) - [255, 0, 0]).max() <= 1


def test_large_pictures_are_read_up_to_a_limit_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert colours(encoded(Image.new("1", (60, 60), 1))) == (grey(255), grey(255)), "Pillow alone would refuse it"
    assert Image.MAX_IMAGE_PIXELS == 1000, "the limit of the process is as it was"
    (tmp_path / "small.png").write_bytes(encoded(Image.new("1", (90, 90))))
    (tmp_path / "large.png").write_bytes(encoded(Image.new("1", (100, 101))))
    named = r"large.png: too large: 100x101 pixels, allowed are 10,000 \(data.max_pixels\)"
    with pytest.raises(OSError, match=named):
        create("data", "folder", root=tmp_path, max_pixels=10_000)
    assert len(create("data", "folder", root=tmp_path, max_pixels=10_100)) == 2


def test_the_largest_jpegs_are_decoded_at_a_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    from latsem.components.data import picture

    content = encoded(Image.linear_gradient("L").resize((800, 800)).convert("RGB"), "JPEG", quality=95)
    whole = decode(content, 50).astype(int)
    monkeypatch.setattr(picture, "LARGEST_PICTURE", 100_000)
    fraction = decode(content, 50).astype(int)
    assert fraction.shape == whole.shape and 0 < np.abs(fraction - whole).max() <= 2


def test_programs_are_no_pictures() -> None:
    """Pillow would have Ghostscript run a PostScript file, whatever its name."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(ValueError, match="^not a picture of a known format$"):
        decode(program, SIDE)
    assert "EPS" not in formats() and ".eps" not in suffixes()
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".mpo"} <= suffixes()
    assert not {".pdf", ".h5", ".mpg", ".txt", ".json"} & suffixes()


def test_a_recipe_says_how_pictures_are_decoded(tmp_path: Path) -> None:
    asked = decoding_of(FolderSettings(root=tmp_path, metadata="ignore", background="#102030", max_pixels=9))
    assert asked == Decoding(metadata=False, background=(16, 32, 48), max_pixels=9)
    assert decoding_of(FolderSettings(root=tmp_path)) == decoding_of(ShapesSettings()) == AS_VIEWERS_DO
    with pytest.raises(ValidationError, match="background"):
        FolderSettings(root=tmp_path, background="see-through")
    (tmp_path / "a.png").write_bytes(TRANSPARENT["RGBA"])
    prints = {
        create("data", "folder", root=tmp_path, **values).fingerprint()
        for values in ({}, {"background": "black"}, {"metadata": "ignore"})
    }
    assert len(prints) == 3
    (pixels,) = read_pictures([tmp_path / "a.png"], SIDE, Decoding(background=(1, 2, 3)))
    assert pixels[:, 0, 0].tolist() == [1, 2, 3]
