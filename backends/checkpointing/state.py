"""What training needs to go on exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..guard import FiniteGuard
from ..meter import Meter
from .store import step_of
from .weights import load_into


@dataclass(frozen=True)
class TrainingState:
    """What a checkpoint holds. What is random is a function of seed, step and place in the batch, and needs none in it.

    Attributes:
        meter: sums of what will be logged, since the last line of the log.
        guard: how many steps were left out.
    """

    model: nn.Module
    ema: nn.Module
    optimizer: torch.optim.Optimizer
    meter: Meter
    guard: FiniteGuard

    def tensors(self, *, copy: bool) -> dict[str, dict[str, Tensor]]:
        """Return all tensors in main memory, by file and name.

        Args:
            copy: whether training goes on while they are written; they are copies then.
        """
        files = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self._optimizer_tensors(),
            "meter": self.meter.tensors(),
            "guard": self.guard.tensors(),
        }
        return {name: in_main_memory(tensors, copy=copy) for name, tensors in files.items()}

    def load(self, checkpoint: Path) -> int:
        """Take everything from a checkpoint that was found whole, and return the step that was done last.

        Raises:
            UserError: weights of another model.
        """
        load_into(self.model, checkpoint / "model.safetensors")
        load_into(self.ema, checkpoint / "ema.safetensors")
        self._load_optimizer(load_file(checkpoint / "optimizer.safetensors"))
        self.meter.restore(load_file(checkpoint / "meter.safetensors"))
        self.guard.restore(load_file(checkpoint / "guard.safetensors"))
        return step_of(checkpoint)

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return {
            f"{names[id(parameter)]}|{key}": value
            for parameter, values in self.optimizer.state.items()
            for key, value in values.items()
        }

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        parameters = dict(self.model.named_parameters())
        for name, value in tensors.items():
            parameter_name, _, key = name.rpartition("|")
            parameter = parameters[parameter_name]
            self.optimizer.state[parameter][key] = value if key == "step" else value.to(parameter.device)


def in_main_memory(tensors: Mapping[str, Tensor], *, copy: bool) -> dict[str, Tensor]:
    """Return tensors as they can be written, copied only where that is needed or asked for."""
    moved = {name: value.detach().to("cpu", copy=copy) for name, value in tensors.items()}
    return {name: value.contiguous() for name, value in moved.items()}
