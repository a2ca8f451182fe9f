"""Published weights to the denoiser's own layout: the same network, one embedding and one head a stream."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .layout import FREQUENCIES, PublishedShape

RENAMED: Mapping[str, str] = {
    "t_embedder.mlp.0": "clock.embeddings.image.mlp.0",
    "t_embedder.mlp.2": "clock.embeddings.image.mlp.2",
    "final_layer.adaLN_modulation.1": "heads.modulation.1",
}

RENAMED_IN_BLOCKS: Mapping[str, str] = {
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "adaLN_modulation.1": "modulation.1",
}


def converted(
    tensors: Mapping[str, Tensor],
    shape: PublishedShape,
    streams: Mapping[str, int],
    *,
    num_classes: int,
    learned_variance: bool,
) -> dict[str, Tensor]:
    """Return a denoiser's weights, float32.

    Args:
        tensors: published weights that fit `shape`.
        shape: the network's dimensions.
        streams: channels by stream, in the order in which the published input lines them up.
        num_classes: a table without the row for "no label" is given one of zeros, which nothing was trained to use.
        learned_variance: whether to keep what the network says of variances, where it says anything.
    """
    names = dict(RENAMED)
    for index in range(shape.depth):
        names |= {f"blocks.{index}.{old}": f"blocks.{index}.{new}" for old, new in RENAMED_IN_BLOCKS.items()}
    state = {f"{new}.{end}": tensors[f"{old}.{end}"] for old, new in names.items() for end in ("weight", "bias")}
    state["labels.weight"] = _label_table(tensors["y_embedder.embedding_table.weight"], num_classes)
    first = 0
    for name, channels in streams.items():
        chosen = range(first, first + channels)
        state |= _embedding(tensors, name, chosen)
        state |= _head(tensors, shape, name, chosen, learned_variance=learned_variance)
        first += channels
    return {name: tensor.float() for name, tensor in state.items()}


def time_reversed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a network that says at time t what the given one says at 1 - t, with the other sign.

    REPA's code has data at 0 and noise at 1 and learns `noise - data`; SiT's has noise at 0, and learns `data - noise`.
    With angles `r` the first time layer reads `cos((1 - t) r) = cos r cos(t r) + sin r sin(t r)` and
    `sin((1 - t) r) = sin r cos(t r) - cos r sin(t r)`, so that its columns turn by `r`; the head changes its sign.
    """
    half = FREQUENCIES // 2
    angle = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float64) / half)
    layer = tensors["t_embedder.mlp.0.weight"]
    cosine, sine = layer.double().chunk(2, dim=1)
    turned = [cosine * angle.cos() + sine * angle.sin(), cosine * angle.sin() - sine * angle.cos()]
    head = {f"final_layer.linear.{end}": -tensors[f"final_layer.linear.{end}"] for end in ("weight", "bias")}
    return {**tensors, **head, "t_embedder.mlp.0.weight": torch.cat(turned, dim=1).float()}


def _label_table(table: Tensor, num_classes: int) -> Tensor:
    missing = num_classes + 1 - len(table)
    return torch.cat([table, table.new_zeros(missing, table.shape[1])]) if missing > 0 else table


def _embedding(tensors: Mapping[str, Tensor], name: str, channels: range) -> dict[str, Tensor]:
    """A convolution over the streams' channels side by side is the sum of one a stream; its bias counts once."""
    bias = tensors["x_embedder.proj.bias"]
    weight = tensors["x_embedder.proj.weight"][:, channels.start : channels.stop]
    return {
        f"embeddings.{name}.layers.weight": weight.flatten(1),
        f"embeddings.{name}.layers.bias": torch.zeros_like(bias) if channels.start else bias,
    }


def _head(
    tensors: Mapping[str, Tensor], shape: PublishedShape, name: str, channels: range, *, learned_variance: bool
) -> dict[str, Tensor]:
    """Take a stream's rows: they come by place in the patch, then channel, and go by channel, then place.

    Published are all streams' means, then all streams' variances; here a stream's means, then its variances.
    """
    chosen = list(channels)
    if learned_variance and shape.learned_variance:
        chosen += [shape.channels + channel for channel in channels]
    state = {}
    for end in ("weight", "bias"):
        rows = tensors[f"final_layer.linear.{end}"].unflatten(0, (shape.patch**2, shape.outputs))
        state[f"heads.linear.{name}.{end}"] = rows[:, chosen].transpose(0, 1).flatten(0, 1)
    return state
