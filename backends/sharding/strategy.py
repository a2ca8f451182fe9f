"""Fabric's strategy that cuts a model, and where it is cut."""

from __future__ import annotations

from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from ..blocks import blocks_of


def sharding_strategy(devices: int, accelerator: str) -> ModelParallelStrategy:
    """Return Fabric's strategy that cuts a model into a part for each of so many devices."""
    return ModelParallelStrategy(
        parallelize_fn=_cut,
        data_parallel_size=devices,
        tensor_parallel_size=1,
        process_group_backend="gloo" if accelerator == "cpu" else None,
    )


def _cut(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    # The weights of blocks are put together one after the other, the rest's are so all the step long.
    for module in (*blocks_of(model), model):
        fully_shard(module, mesh=mesh["data_parallel"])
    return model
