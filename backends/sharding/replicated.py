"""Everything on every device: one device, or several that exchange gradients (`ddp`)."""

from __future__ import annotations

from collections.abc import Mapping

from lightning_fabric import Fabric
from torch import Tensor

from ..model import JointModel
from ..settings import TrainSettings
from ..updates import make_ema, make_optimizer
from .layout import Layout


class Replicated(Layout):
    """Every device has the whole of it."""

    def __init__(self, fabric: Fabric, model: JointModel, train: TrainSettings) -> None:
        self.model = model
        self.optimizer = make_optimizer(model, train)
        self._ema = make_ema(model, train.ema)
        self.wrapped, self.wrapped_optimizer = fabric.setup(model, self.optimizer)

    def update_average(self, step: int) -> None:
        """Let the moving average follow the weights after a step."""
        self._ema.update(self.model, step=step)  # type: ignore[operator]

    def average_tensors(self) -> Mapping[str, Tensor]:
        """Return the moving average by name."""
        return self.average().state_dict()

    def average(self) -> JointModel:
        """Return the moving average."""
        module: JointModel = self._ema.module  # type: ignore[assignment]
        return module

    def last(self) -> JointModel:
        """Return the model that learns."""
        return self.model
