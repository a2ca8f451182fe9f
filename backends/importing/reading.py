"""Checkpoint files of others: tensors are read, and nothing in them is run."""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError

WEIGHTS = ("ema", "model")
STEPS = ("step", "steps", "train_steps")
WRAPPER = "module."

_REFUSED_NAME = re.compile(r"GLOBAL (\S+)")
_REFUSAL = re.compile(r"WeightsUnpickler error:\s*(.+)")


@dataclass(frozen=True)
class PublishedCheckpoint:
    """What a checkpoint file holds.

    Attributes:
        tensors: weights by their published names; they may lie in the file still.
        source: which of the file's weights they are: `ema`, `model`, or `state dict` where there is one set alone.
        step: the training step, 0 if the file does not say.
    """

    tensors: dict[str, Tensor]
    source: str
    step: int


def read_checkpoint(path: Path) -> PublishedCheckpoint:
    """Read the weights of a `.pt` file: a state dict, or the moving average (else the model) of a training checkpoint.

    Raises:
        UserError: no such file, not a checkpoint, or one that holds anything but tensors and plain values.
    """
    values = _load(path)
    if not isinstance(values, Mapping):
        raise UserError(f"{path}: holds one {type(values).__name__}; a checkpoint is a dict of tensors")
    source = next((key for key in WEIGHTS if isinstance(values.get(key), Mapping)), None)
    weights = values if source is None else values[source]
    if not weights or not all(isinstance(key, str) and isinstance(item, Tensor) for key, item in weights.items()):
        held = ", ".join(repr(key)[:100] for key in list(values)[:5])
        raise UserError(f"{path}: neither a state dict nor a dict with 'ema' or 'model' (it holds {held or 'nothing'})")
    tensors = {name: tensor.detach() for name, tensor in weights.items()}
    return PublishedCheckpoint(_unwrapped(tensors), source or "state dict", _step(values))


def _load(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        # Namespace is an inert holder: released training checkpoints keep their arguments in one.
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # A broken file can fail in any way.
        raise UserError(f"{path}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    refused = _REFUSED_NAME.search(str(error))
    if refused:
        return f"holds '{refused[1]}': only tensors and plain values are read from a checkpoint, and nothing is run"
    refusal = _REFUSAL.search(str(error))
    first = refusal[1] if refusal else (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"not a checkpoint that torch.save wrote, or not with its own pickle protocol ({first[:200]})"


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the prefix that DistributedDataParallel puts before every name."""
    if not all(name.startswith(WRAPPER) for name in tensors):
        return tensors
    return {name.removeprefix(WRAPPER): tensor for name, tensor in tensors.items()}


def _step(values: Mapping[Any, Any]) -> int:
    said = (values.get(key) for key in STEPS)
    return next((step for step in said if type(step) is int and step >= 0), 0)
