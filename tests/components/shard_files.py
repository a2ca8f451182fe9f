"""Shards as they are opened, and pictures for them."""

from __future__ import annotations

import io

from PIL import Image

from latsem.components.data.webdataset import WebDataset
from latsem.components.registry import create


def opened(shards: object, **values: object) -> WebDataset:
    source: WebDataset = create("data", "webdataset", shards=shards, **values)
    return source


def png(colour: int, side: int = 8) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (side, side), (colour, colour, colour)).save(content, "png")
    return content.getvalue()
