"""What training asks of a strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..model import JointModel


class Layout(ABC):
    """Model, optimizer and moving average of a run, as they lie on its devices.

    Attributes:
        model: what learns.
        wrapped: the same as it is called, so that gradients are exchanged.
        optimizer: over the parameters as they lie.
        wrapped_optimizer: the same as it is stepped.
    """

    model: JointModel
    wrapped: nn.Module
    optimizer: torch.optim.AdamW
    wrapped_optimizer: torch.optim.Optimizer

    @abstractmethod
    def update_average(self, step: int) -> None:
        """Let the moving average follow the weights after a step."""

    @abstractmethod
    def average_tensors(self) -> Mapping[str, Tensor]:
        """Return the moving average as it lies, by name; changes to the tensors are changes to it."""

    @abstractmethod
    def average(self) -> JointModel:
        """Return the moving average as a model that one device can call; all processes ask for it together.

        Where it has to be put together it takes memory for as long as it is referred to.
        """

    @abstractmethod
    def last(self) -> JointModel:
        """Return the last weights in the same way."""
