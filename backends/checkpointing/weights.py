"""Weights of checkpoints, to sample and score with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ...components.weights import differences
from ..errors import UserError
from ..run_folder import RunFolder
from ..tensor_files import load_tensors, open_tensors
from .store import newest_checkpoint, step_of, verify


def load_weights(checkpoint: Path, model: nn.Module, *, ema: bool = True) -> None:
    """Load weights to sample or score with: the moving average, or the last ones.

    Raises:
        UserError: a damaged file, or weights of another model.
    """
    verify(checkpoint)
    path = checkpoint / ("ema.safetensors" if ema else "model.safetensors")
    if not path.is_file():
        raise UserError(f"{checkpoint}: holds no last weights (imported runs have their average alone)")
    load_into(model, path)


def load_newest(folder: RunFolder, model: nn.Module) -> int:
    """Load the moving average of a run's newest checkpoint and return its step.

    Raises:
        UserError: there is no checkpoint, or it is damaged, or belongs to another model.
    """
    newest = newest_checkpoint(folder)
    load_weights(newest, model)
    return step_of(newest)


def load_newest_part(folder: RunFolder, part: nn.Module, name: str) -> int:
    """Load one part of the moving average of a run's newest checkpoint and return its step.

    Args:
        name: what the part is called in the model.

    Raises:
        UserError: there is no checkpoint, or it is damaged, or belongs to another model.
    """
    newest = newest_checkpoint(folder)
    verify(newest)
    path = newest / "ema.safetensors"
    with open_tensors(path) as file:
        keys = [key for key in file.keys() if key.startswith(f"{name}.")]  # noqa: SIM118
        fill(part, {key.removeprefix(f"{name}."): file.get_tensor(key) for key in keys}, path)
    return step_of(newest)


def load_into(model: nn.Module, path: Path) -> None:
    """Load a file of weights.

    Raises:
        UserError: they belong to another model.
    """
    fill(model, load_tensors(path), path)


def fill(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a model the weights of a file.

    Raises:
        UserError: they belong to another model.
    """
    require_fit(tensors, model.state_dict(), path)
    model.load_state_dict(tensors)


def require_fit(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Compare the weights of a file with those of a model, by name and shape.

    Raises:
        UserError: they belong to another model.
    """
    problem = differences(tensors, wanted)
    if problem:
        raise UserError(f"{path}: these weights belong to another model ({problem}); load them with their own recipe")
