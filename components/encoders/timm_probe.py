"""What timm itself says of a network: the one place that asks it for names and shapes. Loads torch."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..messages import first_line
from ..torchvision_import import ensure_torchvision
from .timm_table import Architecture


@cache
def names() -> tuple[str, ...]:
    """Return timm's names of networks with published weights, tags included."""
    return tuple(_timm().list_models(pretrained=True))


def matching(pattern: str) -> list[str]:
    """Return those that a pattern with `*`, `?` or `[...]` describes."""
    return [name for name in names() if fnmatchcase(name, pattern)]


def summary(name: str) -> str:
    """Return what timm states of a network without building it."""
    stated = config(name)
    return f"for {stated.input_size[-1]} pixels, {stated.license or 'licence not stated'}"


def known(name: str) -> bool:
    """Return whether timm can build a network of this name, with or without a tag."""
    timm = _timm()
    bare, _, tag = name.partition(".")
    return bool(timm.is_model(bare)) and (not tag or name in names())


@cache
def probe(name: str) -> Architecture:
    """Return what a network is like, found by building it without memory.

    Raises:
        ValueError: it gives no square grid of features.
    """
    own_size = int(config(name).input_size[-1])
    network, features = _run(name, own_size)
    try:
        _, width, height, across = to_grid(network, features).shape
    except ValueError as error:
        raise ValueError(f"'{name}' cannot be an encoder: it gives {error}") from None
    # A convolutional network rounds up where its stride does not divide the image.
    stride = network.feature_info[-1]["reduction"] if features.ndim == 4 else own_size // height
    if height != across or math.ceil(own_size / stride) != height:
        raise ValueError(f"'{name}' cannot be an encoder: it gives {height}x{across} features of {own_size} pixels")
    return Architecture(
        model=name,
        stride=stride,
        width=width,
        depth=len(network.blocks) if _is_column(network) else 1,
        parameters=round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1),
        licence=config(name).license or "not stated",
    )


@cache
def refusal(name: str, image_size: int, grid: int) -> str:
    """Return why a network cannot make a grid of features of images of a size, or nothing if it can."""
    try:
        found = to_grid(*_run(name, image_size)).shape[-1]
    except (ValueError, RuntimeError, AssertionError, TypeError) as error:
        return f"'{name}' does not take images of {image_size} pixels ({first_line(error)})"
    return "" if found == grid else f"'{name}' makes {found}x{found} features of {image_size} pixels, not {grid}x{grid}"


def config(name: str) -> Any:
    """Return timm's description of a network and its weights."""
    _timm()
    from timm.models import get_pretrained_cfg  # noqa: PLC0415

    return get_pretrained_cfg(name)


def create(name: str, image_size: int, **values: Any) -> Any:
    """Return timm's network for images of a size; not every network has to be told."""
    if config(name).fixed_input_size:
        values["img_size"] = image_size
    return _timm().create_model(name, **values)


def to_grid(network: Any, features: Tensor) -> Tensor:
    """Return what a timm network calls its features as a grid `(B, D, h, w)`, without prefix tokens.

    Raises:
        ValueError: they do not lie on a square grid.
    """
    if not isinstance(features, Tensor):
        raise ValueError("several tensors instead of one grid of features")
    if features.ndim == 4:
        return features.movedim(-1, 1) if getattr(network, "output_fmt", "NCHW") == "NHWC" else features
    patches = features[:, getattr(network, "num_prefix_tokens", 0) :]
    side = math.isqrt(patches.shape[1]) if patches.ndim == 3 else 0
    if side < 2 or side**2 != patches.shape[1]:
        raise ValueError(f"{tuple(features.shape[1:])} values an image, no square grid of features")
    return patches.transpose(1, 2).unflatten(2, (side, side))


def _is_column(network: Any) -> bool:
    """Return whether all blocks of a network share one grid, as those of a plain transformer do."""
    return hasattr(network, "blocks") and hasattr(network, "forward_intermediates") and hasattr(network, "pos_drop")


def _run(name: str, image_size: int) -> tuple[Any, Tensor]:
    with torch.device("meta"), torch.no_grad():
        network = create(name, image_size, num_classes=0).eval()
        features: Tensor = network.forward_features(torch.empty(1, 3, image_size, image_size))
    return network, features


def _timm() -> Any:
    ensure_torchvision()
    import timm  # noqa: PLC0415

    return timm
