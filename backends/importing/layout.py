"""The layout that SiT, DiT and ReDi publish: dimensions from shapes, and whether every tensor is there and fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...components.denoisers.dit import MLP_RATIO
from ...components.denoisers.embeddings import sincos_positions
from ...components.weights import differences, listed

LATENT_CHANNELS = 4
LATENT_FACTOR = 8
"""Channels of the autoencoder's latents and pixels a latent, the same in all three papers."""

FREQUENCIES = 256
POSITION_TOLERANCE = 1e-4

AUXILIARY = ("projector.", "projectors.")
"""Heads of REPA's loss, which sampling does not use: the first in ReDi's code, the second in REPA's own."""

ANCHORS = frozenset(
    {
        "pos_embed",
        "x_embedder.proj.weight",
        "y_embedder.embedding_table.weight",
        "t_embedder.mlp.0.weight",
        "t_embedder.mlp.2.weight",
        "final_layer.linear.weight",
        "final_layer.adaLN_modulation.1.weight",
    }
)
"""Tensors of every network of this layout, whatever its size."""


@dataclass(frozen=True)
class PublishedShape:
    """Dimensions of a published network.

    Attributes:
        channels: of the noisy input, the image's first.
        rows: of the label table; one more than the classes if labels were dropped in training.
        token_grid: tokens along one side.
        learned_variance: whether it outputs as many channels again, for a variance.
    """

    depth: int
    width: int
    patch: int
    channels: int
    rows: int
    token_grid: int
    learned_variance: bool

    @property
    def semantic_channels(self) -> int:
        """Channels behind the image's."""
        return self.channels - LATENT_CHANNELS

    @property
    def outputs(self) -> int:
        """Channels of the output."""
        return self.channels * (2 if self.learned_variance else 1)

    @property
    def image_size(self) -> int:
        """Side of the images, pixels."""
        return self.token_grid * self.patch * LATENT_FACTOR


def without_auxiliary(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the network itself."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(AUXILIARY)}


def measure(tensors: Mapping[str, Tensor]) -> PublishedShape:
    """Return the dimensions of a network from the shapes of its tensors, after checking that all are there and fit.

    Raises:
        ValueError: names the first tensors that are missing, unknown or of another shape, or positions that differ.
    """
    width, channels, patch, _ = _dimensions(tensors, "x_embedder.proj.weight", 4)
    _, tokens, _ = _dimensions(tensors, "pos_embed", 3)
    rows, _ = _dimensions(tensors, "y_embedder.embedding_table.weight", 2)
    values, _ = _dimensions(tensors, "final_layer.linear.weight", 2)
    if math.isqrt(tokens) ** 2 != tokens:
        raise ValueError(f"'pos_embed' has {tokens} tokens, which make no square")
    if channels < LATENT_CHANNELS:
        raise ValueError(f"takes {channels} channels; the latents of an image have {LATENT_CHANNELS}")
    if values not in (channels * patch**2, 2 * channels * patch**2):
        raise ValueError(f"'final_layer.linear' gives {values} values a token, not {channels * patch**2} or twice that")
    shape = PublishedShape(
        depth=len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}),
        width=width,
        patch=patch,
        channels=channels,
        rows=rows,
        token_grid=math.isqrt(tokens),
        learned_variance=values != channels * patch**2,
    )
    _check_shapes(tensors, expected_shapes(shape))
    _check_positions(tensors["pos_embed"], shape)
    return shape


def _dimensions(tensors: Mapping[str, Tensor], name: str, count: int) -> tuple[int, ...]:
    if name not in tensors:
        raise ValueError(f"has no '{name}': not the layout of SiT, DiT or ReDi (it holds {listed(tensors)})")
    shape = tuple(tensors[name].shape)
    if len(shape) != count or 0 in shape:
        raise ValueError(f"'{name}' has the shape {shape}, not {count} dimensions")
    return shape


def expected_shapes(shape: PublishedShape) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a network, by published name."""
    width, hidden = shape.width, MLP_RATIO * shape.width
    linear = {
        "t_embedder.mlp.0": (width, FREQUENCIES),
        "t_embedder.mlp.2": (width, width),
        "final_layer.linear": (shape.outputs * shape.patch**2, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
    }
    for index in range(shape.depth):
        linear |= {
            f"blocks.{index}.attn.qkv": (3 * width, width),
            f"blocks.{index}.attn.proj": (width, width),
            f"blocks.{index}.mlp.fc1": (hidden, width),
            f"blocks.{index}.mlp.fc2": (width, hidden),
            f"blocks.{index}.adaLN_modulation.1": (6 * width, width),
        }
    return {
        "x_embedder.proj.weight": (width, shape.channels, shape.patch, shape.patch),
        "x_embedder.proj.bias": (width,),
        "pos_embed": (1, shape.token_grid**2, width),
        "y_embedder.embedding_table.weight": (shape.rows, width),
        **{f"{name}.weight": size for name, size in linear.items()},
        **{f"{name}.bias": size[:1] for name, size in linear.items()},
    }


def _check_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    wanted = {name: torch.empty(sides, device="meta") for name, sides in expected.items()}
    problem = differences(tensors, wanted)
    if problem:
        raise ValueError(problem)


def _check_positions(found: Tensor, shape: PublishedShape) -> None:
    if shape.width % 4:
        raise ValueError(f"a width of {shape.width} has no 2-D sin-cos positions (it is no multiple of 4)")
    difference = float((found[0].float() - sincos_positions((shape.token_grid,), shape.width)).abs().max())
    # A file in half precision has rounded them.
    if not difference <= max(POSITION_TOLERANCE, torch.finfo(found.dtype).eps):
        raise ValueError(f"'pos_embed' is not the fixed 2-D sin-cos table (it differs by up to {difference:.2g})")
