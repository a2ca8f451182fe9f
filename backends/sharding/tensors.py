"""Tensors of which every device has a part."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


@torch.no_grad()
def local(tensor: Tensor) -> Tensor:
    """Return what this device has of a tensor; changes to it are changes to the tensor."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


@torch.no_grad()
def whole(tensor: Tensor) -> Tensor:
    """Return a tensor as one device would have it. All processes take part, in the same order."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def laid_out(value: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor on the device of another and, if that lies in parts, in the same parts.

    Every process has the whole one: nothing is sent.
    """
    if not isinstance(like, DTensor):
        return value.to(like.device)
    parts: DTensor = distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
    # A part is a view, which would keep the whole in memory.
    return parts.to(like.device).clone()


@torch.no_grad()
def copy_into(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Give tensors, which may lie in parts, the values of whole ones of the same names."""
    for name, tensor in tensors.items():
        tensor.copy_(laid_out(values[name], tensor))


def in_main_memory(tensors: Mapping[str, Tensor], *, copy: bool, here: bool = True) -> dict[str, Tensor]:
    """Return tensors whole and as they can be written, one after the other: all processes take part.

    Args:
        copy: whether they are copied where that is not needed, too.
        here: whether this process wants them; it is given nothing else.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = whole(tensor)
        if here:
            found[name] = value.to("cpu", copy=copy).contiguous()
    return found
