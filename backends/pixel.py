"""The pixel space."""

from __future__ import annotations

from .space import Space


class PixelSpace(Space):
    """Images are the image stream: nothing is lost on the way."""
