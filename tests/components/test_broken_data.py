"""Images and archives that are broken in many ways: none ends a process, and the count of what is left out is exact."""

from __future__ import annotations

import io
import random
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import add_member, torture
from PIL import Image

from latsem.backends.errors import RunFailed, UserError
from latsem.backends.evaluation.references import NpzReference
from latsem.backends.importing.reading import read_checkpoint
from latsem.components.data.crop import LARGEST_PICTURE
from latsem.components.data.encoded import EncodedImages
from latsem.components.data.picture import decode
from latsem.components.registry import create

SIDE = 16
FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff")


def encoded(chance: random.Random, kind: str, mode: str = "RGB") -> bytes:
    """Return a whole image of noise."""
    width, height = chance.randint(SIDE, 48), chance.randint(SIDE, 48)
    pixels = np.frombuffer(chance.randbytes(3 * width * height), np.uint8).reshape(height, width, 3)
    content = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(content, kind)
    return content.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_that_claims(width: int, height: int) -> bytes:
    """Return a small file of a picture of any size: its checksums are right, its pixels are missing."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"\0" * 100)) + png_chunk(b"IEND", b"")


def png_with_a_long_note(chance: random.Random) -> bytes:
    """Return a picture with a text that is small in the file and 64 MiB in memory."""
    whole = encoded(chance, "png")
    note = png_chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(2**26), 9))
    return whole[:33] + note + whole[33:]


def flipped(content: bytes, chance: random.Random, bits: int) -> bytes:
    changed = bytearray(content)
    for _ in range(bits):
        place = chance.randrange(8 * len(changed))
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


Maker = Callable[[random.Random], bytes]

WHOLE: dict[str, Maker] = {
    **{kind: lambda chance, kind=kind: encoded(chance, kind) for kind in FORMATS},  # type: ignore[misc]
    "grey": lambda chance: encoded(chance, "png", "L"),
    "palette": lambda chance: encoded(chance, "png", "P"),
    "transparent": lambda chance: encoded(chance, "png", "RGBA"),
    "CMYK": lambda chance: encoded(chance, "jpeg", "CMYK"),
    "bits": lambda chance: encoded(chance, "png", "1"),
}
BROKEN: dict[str, Maker] = {
    "empty": lambda chance: b"",
    "noise": lambda chance: chance.randbytes(chance.randrange(1, 2000)),
    "page": lambda chance: b"<html><body>404 Not Found</body></html>",
    "signature": lambda chance: b"\x89PNG\r\n\x1a\n" + chance.randbytes(chance.randrange(200)),
    "short header": lambda chance: encoded(chance, "jpeg")[: chance.randrange(1, 100)],
    "archive": lambda chance: zlib.compress(encoded(chance, "png")),
    "bomb": lambda chance: png_that_claims(chance.randrange(LARGEST_PICTURE, 2**31 - 1), 1),
    "large": lambda chance: png_that_claims(20_000, 20_000),
    "no pixels": lambda chance: png_that_claims(0, chance.randrange(9)),
    "thin": lambda chance: png_that_claims(2**26, 1),
    "pixels missing": lambda chance: png_that_claims(200, 200),
    "long note": png_with_a_long_note,
}
EITHER: dict[str, Maker] = {
    **{f"flipped {kind}": lambda c, kind=kind: flipped(encoded(c, kind), c, c.randint(1, 20)) for kind in FORMATS},  # type: ignore[misc]
    **{f"cut {kind}": lambda c, kind=kind: cut(encoded(c, kind), c) for kind in FORMATS},  # type: ignore[misc]
}
MAKERS = {**BROKEN, **EITHER}


def readable(content: bytes) -> bool:
    try:
        decode(content, SIDE)
    except ValueError:
        return False
    return True


def broken_images(count: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents, one kind after the other."""
    makers = list(MAKERS.items())
    for number in range(count):
        kind, make = makers[number % len(makers)]
        yield f"{number:04d} {kind}".replace(" ", "_"), make(chance)


def in_a_folder(files: dict[str, bytes], root: Path) -> EncodedImages:
    (root / "images").mkdir()
    for name, content in files.items():
        (root / "images" / f"{name}.jpg").write_bytes(content)
    source: EncodedImages = create("data", "folder", root=root / "images", image_size=SIDE, max_unreadable=1)
    return source


def in_a_shard(files: dict[str, bytes], root: Path) -> EncodedImages:
    with tarfile.open(root / "images.tar", "w") as tar:
        for name, content in files.items():
            add_member(tar, f"{name}.jpg", content)
    source: EncodedImages = create(
        "data", "webdataset", shards=str(root / "images.tar"), cache=root, image_size=SIDE, max_unreadable=1
    )
    return source


@pytest.mark.parametrize("kind", WHOLE)
def test_images_of_every_kind_are_read(kind: str) -> None:
    assert decode(WHOLE[kind](random.Random(0)), SIDE).shape == (SIDE, SIDE, 3)  # noqa: S311


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_image_is_an_error_of_one_kind(kind: str) -> None:
    for seed in range(3):
        with pytest.raises(ValueError, match=r".+"):
            decode(BROKEN[kind](random.Random(seed)), SIDE)  # noqa: S311


@pytest.mark.filterwarnings("ignore:.*damaged, left out")
@pytest.mark.parametrize("place", [in_a_folder, in_a_shard])
@pytest.mark.parametrize("count", [48, torture(400)])
def test_broken_images_are_left_out_and_counted(
    count: int, place: Callable[[dict[str, bytes], Path], EncodedImages], tmp_path: Path, figure: Callable[[str], None]
) -> None:
    chance = random.Random(count)  # noqa: S311
    good = {f"9{number}-good": encoded(chance, "png") for number in range(20)}
    broken = dict(broken_images(count, chance))
    files = {**broken, **good}
    lost = {name for name, content in files.items() if not readable(content)}
    assert len(lost) >= count * len(BROKEN) // len(MAKERS) and not lost & good.keys()
    source = place(files, tmp_path)
    kept = {decode(content, SIDE).tobytes() for name, content in files.items() if name not in lost}
    seen = {source.item(index, 0)[0].permute(1, 2, 0).numpy().tobytes() for index in range(len(source))}
    assert seen == kept
    assert {Path(name).stem for name in source.unreadable} == lost
    assert f", {len(lost)} unreadable left out (" in source.describe()
    figure(f"{count} broken images ({place.__name__}): {len(lost)} left out, exactly those that cannot be read")


def overwritten(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + chance.randbytes(500) + content[place + 500 :]


def whole_archives(chance: random.Random, root: Path) -> dict[str, bytes]:
    """Return a whole archive of each kind that is read."""
    with tarfile.open(root / "whole.tar", "w") as tar:
        for number in range(6):
            add_member(tar, f"{number}.png", encoded(chance, "png"))
    images = np.frombuffer(chance.randbytes(4 * SIDE * SIDE * 3), np.uint8).reshape(4, SIDE, SIDE, 3)
    np.savez(root / "whole.npz", arr_0=images)
    torch.save({"model": {"weight": torch.arange(32.0)}, "step": 3}, root / "whole.pt")
    return {kind: (root / f"whole.{kind}").read_bytes() for kind in ("tar", "npz", "pt")}


def read_tar(path: Path) -> None:
    source = create("data", "webdataset", shards=str(path), cache=path.parent, image_size=SIDE, max_unreadable=1)
    for index in range(len(source)):
        source.item(index, 0)


def read_npz(path: Path) -> None:
    reference = NpzReference(path, 4)
    reference.images(range(len(reference)))


WAYS: list[Callable[[bytes, random.Random], bytes]] = [cut, overwritten, lambda c, chance: flipped(c, chance, 5)]
READERS: dict[str, Callable[[Path], Any]] = {
    "tar": read_tar,
    "npz": read_npz,
    "pt": lambda path: read_checkpoint(path, ("weight",)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [24, torture(102)])
def test_broken_archives_are_refused_by_name(count: int, tmp_path: Path, figure: Callable[[str], None]) -> None:
    chance = random.Random(count)  # noqa: S311
    whole, refused = whole_archives(chance, tmp_path), 0
    for kind, content in whole.items():
        READERS[kind](tmp_path / f"whole.{kind}")
        for number in range(count // len(whole)):
            path = tmp_path / f"broken-{number}.{kind}"
            path.write_bytes(WAYS[number % len(WAYS)](content, chance))
            try:
                READERS[kind](path)
            except (UserError, RunFailed, ValueError, OSError) as error:
                refused += 1
                assert path.name in str(error) and "\n" not in str(error), error
    figure(f"{count} broken archives: {refused} refused by name, the others could still be read")
