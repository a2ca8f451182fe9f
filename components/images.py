"""Pixels in 8 bits, as they are stored, and in [-1, 1], as networks take them."""

from __future__ import annotations

from torch import Tensor

PEAK = 2.0
"""From black to white."""


def to_unit(image: Tensor) -> Tensor:
    """Map uint8 pixels to float in [-1, 1]."""
    return image.float().div_(127.5).sub_(1.0)


def to_pixels(image: Tensor) -> Tensor:
    """Map floats in [-1, 1] to uint8 pixels, rounding to the nearest and clipping what lies outside."""
    return image.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).byte()


def mean_psnr(images: Tensor, originals: Tensor) -> float:
    """Return the peak signal-to-noise ratio of images in [-1, 1], dB, mean over the batch."""
    error = (images - originals).square().flatten(1).mean(1)
    return float((10 * (PEAK**2 / error.clamp_min(1e-10)).log10()).mean())
