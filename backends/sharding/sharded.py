"""A part of every tensor on every device (`fsdp`: PyTorch's FSDP2 by Fabric's ModelParallelStrategy)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..model import JointModel
from ..settings import TrainSettings
from ..updates import make_ema, make_optimizer
from .layout import Layout
from .tensors import local, whole


class Sharded(Layout):
    """Every device has a part of each weight, of its moments and of its average; buffers are small, and whole.

    The model that is handed over is cut where it is. What needs a whole one is given another, put together from the
    parts: a cut model calls for all devices whenever one of its blocks is called.
    """

    def __init__(self, fabric: Fabric, model: JointModel, train: TrainSettings) -> None:
        self._hollow = _without_weights(model)
        self.model = model
        self.wrapped = fabric.setup_module(model)
        self.optimizer = make_optimizer(model, train)
        optimizer: torch.optim.Optimizer = fabric.setup_optimizers(self.optimizer)
        self.wrapped_optimizer = optimizer
        self._ema = make_ema(_Parts(self._tensors()), train.ema)

    def update_average(self, step: int) -> None:
        """Let this device's part of the moving average follow its part of the weights."""
        self._ema.update(_Parts(self._tensors()), step=step)  # type: ignore[operator]

    def average_tensors(self) -> Mapping[str, Tensor]:
        """Return the moving average as it lies, by name."""
        parts: _Parts = self._ema.module  # type: ignore[assignment]
        return {
            name: _as_part_of(tensor, part.data)
            for (name, tensor), part in zip(self.model.state_dict().items(), parts.parts, strict=True)
        }

    def average(self) -> JointModel:
        """Return the moving average, put together."""
        return self._filled(self.average_tensors())

    def last(self) -> JointModel:
        """Return the last weights, put together."""
        return self._filled(self.model.state_dict())

    def _tensors(self) -> Iterable[Tensor]:
        return self.model.state_dict().values()

    def _filled(self, tensors: Mapping[str, Tensor]) -> JointModel:
        model = copy.deepcopy(self._hollow)
        model.load_state_dict({name: whole(tensor).clone() for name, tensor in tensors.items()}, assign=True)
        return model


class _Parts(nn.Module):
    """What a device has of some tensors, in their order: what is averaged without looking at other devices."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        self.parts = nn.ParameterList(nn.Parameter(local(tensor), requires_grad=False) for tensor in tensors)


def _as_part_of(tensor: Tensor, part: Tensor) -> Tensor:
    """Return a device's part as it belongs to a tensor that lies like another."""
    if not isinstance(tensor, DTensor):
        return part
    placed: DTensor = DTensor.from_local(
        part, tensor.device_mesh, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
    )
    return placed


def _without_weights(model: JointModel) -> JointModel:
    """Return a copy whose weights have shapes and no memory; made before the model is cut, for a cut one has none."""
    hollow = {
        id(parameter): nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, hollow)
