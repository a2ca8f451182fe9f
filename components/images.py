"""Pixels in 8 bits, as they are stored, and in [-1, 1], as networks take them."""

from __future__ import annotations

from torch import Tensor


def to_unit(image: Tensor) -> Tensor:
    """Map uint8 pixels to float in [-1, 1]."""
    return image.float().div_(127.5).sub_(1.0)


def to_pixels(image: Tensor) -> Tensor:
    """Map floats in [-1, 1] to uint8 pixels, rounding to the nearest and clipping what lies outside."""
    return image.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).byte()
