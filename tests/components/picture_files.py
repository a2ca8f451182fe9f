"""Encoded pictures made byte by byte, and what is decoded of them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from latsem.components.data.picture import AS_VIEWERS_DO, Decoding, decode

SIDE = 8
AS_STORED = Decoding(metadata=False)


def encoded(picture: Image.Image, kind: str = "PNG", **values: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **values)
    return content.getvalue()


def png(depth: int, colour: int, row: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of `SIDE` equal rows, with chunks before the pixels."""
    header = (b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, depth, colour, 0, 0, 0))
    pixels = (b"IDAT", zlib.compress((b"\0" + row) * SIDE))
    whole = b"\x89PNG\r\n\x1a\n"
    for name, content in (header, *chunks, pixels, (b"IEND", b"")):
        whole += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return whole


def tiff(values: np.ndarray, photometric: int, extra: int | None = None) -> bytes:
    """Return an uncompressed TIFF of one strip, samples `(H, W, n)`."""
    height, width, samples = values.shape
    bits, content = values.dtype.itemsize * 8, values.astype(values.dtype.newbyteorder("<")).tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 277: samples, 278: height, 279: len(content)}
    tags |= {273: 0} | ({338: extra} if extra is not None else {})
    behind = 8 + 2 + 12 * len(tags) + 4
    tags[273] = behind + 2 * samples
    entries = b""
    for tag, value in sorted(tags.items()):
        if tag == 258 and samples > 2:
            entries += struct.pack("<HHII", tag, 3, samples, behind)
        elif tag == 258:
            entries += struct.pack("<HHI", tag, 3, samples) + struct.pack("<HH", bits, bits)
        else:
            entries += struct.pack("<HHII", tag, 4, 1, value)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    return head + struct.pack("<H", bits) * samples + content


def colours(content: bytes, decoding: Decoding = AS_VIEWERS_DO) -> tuple[list[int], list[int]]:
    """Return the first and the last colour of the first row."""
    pixels = decode(content, SIDE, decoding)
    return pixels[0, 0].tolist(), pixels[0, -1].tolist()


def grey(level: int) -> list[int]:
    return [level] * 3
