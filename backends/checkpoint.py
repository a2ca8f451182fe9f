"""Checkpoints: safetensors for every tensor, JSON for the rest, written beside and renamed."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from .errors import UserError
from .run_folder import RunFolder, write_json
from .tensor_files import flush, misfits, save_tensors, sha256_of

_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class TrainingState:
    """What a checkpoint holds."""

    model: nn.Module
    ema: nn.Module
    optimizer: torch.optim.Optimizer


def save_checkpoint(folder: RunFolder, step: int, state: TrainingState, keep: int) -> Path:
    """Write the checkpoint of a step and drop all but the newest `keep`."""
    tensors = {
        "model": _contiguous(state.model.state_dict()),
        "ema": _contiguous(state.ema.state_dict()),
        "optimizer": _optimizer_tensors(state),
    }
    target = _write(folder, step, tensors)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def save_weights(folder: RunFolder, step: int, ema: nn.Module) -> Path:
    """Write a checkpoint of the moving average alone: enough to sample and score with, not to go on."""
    return _write(folder, step, {"ema": _contiguous(ema.state_dict())})


def _write(folder: RunFolder, step: int, tensors: dict[str, dict[str, Tensor]]) -> Path:
    target = folder.checkpoints / f"step-{step:08d}"
    beside = folder.checkpoints / f".step-{step:08d}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name, values in tensors.items():
        save_tensors(values, beside / f"{name}.safetensors")
    write_json(beside / "recipe.json", folder.recipe())
    sums = {path.name: sha256_of(path) for path in sorted(beside.iterdir())}
    write_json(beside / "state.json", {"step": step, "sha256": sums})
    flush([*beside.iterdir(), beside])
    if target.exists():
        shutil.rmtree(target)
    beside.rename(target)
    return target


def checkpoints(folder: RunFolder) -> list[Path]:
    """Return complete checkpoints, oldest first."""
    found = [path for path in folder.checkpoints.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the step in a checkpoint's name."""
    return int(checkpoint.name.removeprefix("step-"))


def verify(checkpoint: Path) -> None:
    """Compare every file with its checksum.

    Raises:
        UserError: names the first file that is missing or damaged.
    """
    try:
        sums: dict[str, str] = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{checkpoint}/state.json: damaged ({error}); remove the folder to use an older one") from None
    for name, expected in sums.items():
        path = checkpoint / name
        if not path.is_file() or sha256_of(path) != expected:
            raise UserError(f"{path}: missing or damaged; remove {checkpoint} to use an older checkpoint")


def load_checkpoint(checkpoint: Path, state: TrainingState) -> int:
    """Load everything needed to go on exactly and return the step that was done last.

    Raises:
        UserError: a damaged file, or weights of another model.
    """
    verify(checkpoint)
    _load(state.model, checkpoint / "model.safetensors")
    _load(state.ema, checkpoint / "ema.safetensors")
    _load_optimizer(state, load_file(checkpoint / "optimizer.safetensors"))
    return step_of(checkpoint)


def load_weights(checkpoint: Path, model: nn.Module, *, ema: bool = True) -> None:
    """Load weights to sample or score with: the moving average, or the last ones.

    Raises:
        UserError: a damaged file, or weights of another model.
    """
    verify(checkpoint)
    path = checkpoint / ("ema.safetensors" if ema else "model.safetensors")
    if not path.is_file():
        raise UserError(f"{checkpoint}: holds no last weights (imported runs have their average alone)")
    _load(model, path)


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
    with safe_open(path, framework="pt") as file:
        keys = [key for key in file.keys() if key.startswith(f"{name}.")]  # noqa: SIM118
        _fill(part, {key.removeprefix(f"{name}."): file.get_tensor(key) for key in keys}, path)
    return step_of(newest)


def newest_checkpoint(folder: RunFolder) -> Path:
    """Return the newest complete checkpoint.

    Raises:
        UserError: there is none.
    """
    found = checkpoints(folder)
    if not found:
        raise UserError(f"{folder.path}: no checkpoint yet; let the run reach its first one")
    return found[-1]


def _load(model: nn.Module, path: Path) -> None:
    _fill(model, load_file(path), path)


def _fill(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    problem = misfits(tensors, model)
    if problem:
        raise UserError(f"{path}: these weights belong to another model ({problem}); load them with their own recipe")
    model.load_state_dict(tensors)


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous() for name, value in tensors.items()}


def _names(model: nn.Module) -> dict[int, str]:
    return {id(parameter): name for name, parameter in model.named_parameters()}


def _optimizer_tensors(state: TrainingState) -> dict[str, Tensor]:
    names = _names(state.model)
    return {
        f"{names[id(parameter)]}|{key}": value.detach().contiguous()
        for parameter, values in state.optimizer.state.items()
        for key, value in values.items()
    }


def _load_optimizer(state: TrainingState, tensors: dict[str, Tensor]) -> None:
    parameters = dict(state.model.named_parameters())
    for name, value in tensors.items():
        parameter_name, _, key = name.rpartition("|")
        parameter = parameters[parameter_name]
        place = value if key == "step" else value.to(parameter.device)
        state.optimizer.state[parameter][key] = place
