"""Checkpoint files of others: tensors are read, and nothing in them is run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ...components.weight_files import is_safetensors, read_safetensors, read_torch, require_held
from ...components.weights import listed
from ..errors import UserError
from .weight_sets import chosen, weight_sets

STEPS = ("step", "steps", "train_steps", "global_step")


@dataclass(frozen=True)
class PublishedCheckpoint:
    """What a checkpoint file holds.

    Attributes:
        tensors: weights by their published names; they may lie in the file still.
        source: which of the file's weights they are: `ema`, `model`, or `state dict` where there is one set alone.
        step: the training step, 0 if the file does not say.
        averaged: whether their name is that of a moving average.
        others: names of the file's other weights of such a network.
        arguments: what the file says of how it was trained.
    """

    tensors: dict[str, Tensor]
    source: str
    step: int
    averaged: bool = False
    others: tuple[str, ...] = ()
    arguments: Mapping[str, Any] | None = None


def read_checkpoint(path: Path, anchors: Collection[str], named: str | None = None) -> PublishedCheckpoint:
    """Read the weights of a file of torch or of safetensors: the moving average, or else the weights that there are.

    Args:
        anchors: names of tensors that the network has whatever its size.
        named: which weights to take, where the file has several.

    Raises:
        UserError: no such file, not a checkpoint of such a network, or one that holds anything but tensors and plain
            values.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        values = read_safetensors(path) if is_safetensors(path) else read_torch(path)
        if not isinstance(values, Mapping):
            raise ValueError(f"holds one {type(values).__name__}; a checkpoint is a dict of tensors")
        sets = weight_sets(values, anchors)
        if not sets:
            raise ValueError(f"holds no weights in the layout of SiT, DiT or ReDi (it holds {_held(values)})")
        taken = chosen(sets, named)
        require_held(taken.tensors, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{path}: {str(error).removeprefix(f'{path} ')}") from None
    others = tuple(each.name for each in sets if each is not taken)
    return PublishedCheckpoint(taken.tensors, taken.name, _step(values), taken.average, others, _arguments(values))


def _held(values: Mapping[Any, Any]) -> str:
    return listed(str(key) for key in values) or "nothing"


def _step(values: Mapping[Any, Any]) -> int:
    said = (values.get(key) for key in STEPS)
    return next((step for step in said if type(step) is int and step >= 0), 0)


def _arguments(values: Mapping[Any, Any]) -> Mapping[str, Any] | None:
    said = values.get("args")
    return said if isinstance(said, Mapping) else getattr(said, "__dict__", None)
