"""What timm itself says of a network: the one place that asks it for names and shapes. Loads torch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..messages import first_line
from ..torchvision_import import ensure_torchvision
from .timm_table import Architecture, Stage


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
    try:
        network, norm, token, grids = _run(name, own_size)
    except (ValueError, RuntimeError, AssertionError, TypeError, AttributeError) as error:
        raise ValueError(f"'{name}' cannot be an encoder ({first_line(error)})") from None
    strides = sorted({int(each["reduction"]) for each in network.feature_info})
    stages = tuple(Stage(_stride(grid, own_size, strides), grid.shape[1]) for grid in grids)
    if not any(stage.stride for stage in stages):
        height, across = grids[-1].shape[-2:]
        raise ValueError(
            f"'{name}' cannot be an encoder: it gives {height}x{across} features of {own_size} pixels, "
            "no whole number of pixels a feature"
        )
    return Architecture(
        model=name,
        stages=stages,
        token=token.shape[1],
        parameters=round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1),
        licence=config(name).license or "not stated",
        norm=norm,
    )


@cache
def refusal(name: str, image_size: int, layers: tuple[int, ...], grid: int) -> str:
    """Return why stages of a network cannot make a grid of features of images of a size, or nothing if they can."""
    try:
        grids = _run(name, image_size)[-1]
        found = {grids[layer].shape[-2:] for layer in layers}
    except (ValueError, RuntimeError, AssertionError, TypeError) as error:
        return f"'{name}' does not take images of {image_size} pixels ({first_line(error)})"
    for height, across in found - {(grid, grid)}:
        return f"'{name}' makes {height}x{across} features of {image_size} pixels, not {grid}x{grid}"
    return ""


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


def read(network: Any, images: Tensor, layers: Sequence[int] | None, **options: Any) -> tuple[Any, list[Tensor]]:
    """Return what a timm network ends with, for its head, and the features of some stages or all.

    Args:
        images: as the network wants them, `(B, 3, H, W)`.
        layers: blocks or stages, counted from the last one (-1); None for all.
        options: further ones of timm's `forward_intermediates`.

    Returns:
        What `forward_features` gives, and grids `(B, D, h, w)` without prefix tokens, from the first stage to the last.
    """
    taken = inspect.signature(type(network).forward_intermediates).parameters
    # Without extra blocks an EfficientNet leaves out every stage that does not halve the grid.
    more = {name: value for name, value in (("extra_blocks", True), ("stop_early", False)) if name in taken}
    last, grids = network.forward_intermediates(images, indices=layers, **more, **options)
    # The first of all is the stem then; whoever counts from the last one need not know.
    return last, grids[1:] if layers is None and "extra_blocks" in more else grids


def class_token(network: Any, last: Any) -> Tensor:
    """Return the class token `(B, D)`, or in its place what a network without one pools its features to.

    Args:
        last: what the network ends with; of one that has no head the mean is taken.
    """
    if getattr(network, "cls_token", None) is not None:
        token: Tensor = last[:, 0]
        return token
    try:
        pooled: Tensor = network.forward_head(last, pre_logits=True)
    except NotImplementedError:
        pooled = last.flatten(1, -2).mean(1)
    return pooled


def _stride(grid: Tensor, image_size: int, published: Sequence[int]) -> int:
    """Return pixels a feature, a number that timm states or an even one; 0 if there is none.

    What timm states of a single stage is not always so, and a convolution rounds up where its stride does not divide
    the image.
    """
    height, across = grid.shape[-2:]
    if height != across or height < 2:
        return 0
    even = [image_size // height] if image_size % height == 0 else []
    return next((stride for stride in [*published, *even] if math.ceil(image_size / stride) == height), 0)


def _run(name: str, image_size: int) -> tuple[Any, bool, Tensor, list[Tensor]]:
    """Return a network, whether it puts its norm on intermediate features, its class token and all its grids."""
    with torch.device("meta"), torch.no_grad():
        network = create(name, image_size, num_classes=0).eval()
        images = torch.empty(1, 3, image_size, image_size)
        try:
            norm, (last, grids) = True, _all(network, images, norm=True)
        except AssertionError:
            norm, (last, grids) = False, _all(network, images, norm=False)
        return network, norm, class_token(network, last), grids


def _all(network: Any, images: Tensor, *, norm: bool) -> tuple[Any, list[Tensor]]:
    try:
        return read(network, images, None, norm=norm)
    except RuntimeError:
        # Some read the sides of the grid off values, of which there are none here.
        last, tokens = read(network, images, None, norm=norm, output_fmt="NLC")
        return last, [_square(each) for each in tokens]


def _square(tokens: Tensor) -> Tensor:
    """Return tokens `(B, N, D)` on a square grid.

    Raises:
        ValueError: they do not lie on one.
    """
    side = math.isqrt(tokens.shape[1])
    if side**2 != tokens.shape[1]:
        raise ValueError(f"{tokens.shape[1]} features an image lie on no square grid")
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def _timm() -> Any:
    ensure_torchvision()
    import timm  # noqa: PLC0415

    return timm
