"""What training needs to go on exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...components.messages import first_line
from ..command_line import command
from ..errors import UserError
from ..files import UnreadableFile
from ..guard import FiniteGuard
from ..meter import Meter
from ..sharding.tensors import copy_into, in_main_memory, laid_out
from ..tensor_files import load_tensors
from .store import step_of
from .weights import require_fit


@dataclass(frozen=True)
class TrainingState:
    """What a checkpoint holds. What is random is a function of seed, step and place in the batch, and needs none in it.

    Model, average and optimizer may lie in parts on several devices: a checkpoint holds them whole, so that a run goes
    on on any number of devices. All processes call what follows together.

    Attributes:
        average: the moving average by name, as it lies.
        meter: sums of what will be logged, since the last line of the log.
        guard: how many steps were left out.
        here: whether this process is the one that writes.
    """

    model: nn.Module
    average: Mapping[str, Tensor]
    optimizer: torch.optim.Optimizer
    meter: Meter
    guard: FiniteGuard
    here: bool = True

    def tensors(self, *, copy: bool) -> dict[str, dict[str, Tensor]]:
        """Return all tensors whole and in main memory, by file and name; none where this process does not write.

        Args:
            copy: whether training goes on while they are written; they are copies then.
        """
        files = {
            "model": self.model.state_dict(),
            "ema": self.average,
            "optimizer": self._optimizer_tensors(),
            "meter": self.meter.tensors(),
            "guard": self.guard.tensors(),
        }
        return {name: in_main_memory(tensors, copy=copy, here=self.here) for name, tensors in files.items()}

    def load(self, checkpoint: Path) -> int:
        """Take everything from a checkpoint that was found whole, and return the step that was done last.

        Sums of the log and counts of the guard begin anew where a checkpoint of an older version has none.

        Raises:
            UserError: weights of another model, or weights alone.
        """
        if not all((checkpoint / f"{file}.safetensors").is_file() for file in ("model", "optimizer")):
            raise UserError(
                f"{checkpoint}: holds weights to sample with and no training state: this run cannot be resumed; start "
                f"a new one from it with '{command('latsem', 'run', 'RECIPE', '--checkpoint', checkpoint)}'"
            )
        for file, tensors in {"model": self.model.state_dict(), "ema": self.average}.items():
            path = checkpoint / f"{file}.safetensors"
            values = load_tensors(path)
            require_fit(values, tensors, path)
            copy_into(tensors, values)
        self._load_optimizer(load_tensors(checkpoint / "optimizer.safetensors"), checkpoint)
        parts: dict[str, Meter | FiniteGuard] = {"meter": self.meter, "guard": self.guard}
        for file, part in parts.items():
            path = checkpoint / f"{file}.safetensors"
            if path.is_file():
                self._restore(part, path)
        return step_of(checkpoint)

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return {
            f"{names[id(parameter)]}|{key}": value
            for parameter, values in self.optimizer.state.items()
            for key, value in values.items()
        }

    @staticmethod
    def _restore(part: Meter | FiniteGuard, path: Path) -> None:
        try:
            part.restore(load_tensors(path))
        except (KeyError, ValueError, RuntimeError) as error:
            raise UnreadableFile(f"{path}: damaged ({first_line(error)})") from None

    def _load_optimizer(self, tensors: Mapping[str, Tensor], checkpoint: Path) -> None:
        parameters = dict(self.model.named_parameters())
        for name, value in tensors.items():
            parameter_name, _, key = name.rpartition("|")
            parameter = parameters.get(parameter_name)
            if parameter is None or value.shape not in (parameter.shape, torch.Size()):
                raise UserError(f"{checkpoint}/optimizer.safetensors: belongs to another model ({name})")
            # Fused kernels read the count of steps on the device.
            own = value.to(parameter.device) if key == "step" else laid_out(value, parameter)
            self.optimizer.state[parameter][key] = own
