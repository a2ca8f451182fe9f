"""Which layout a run has."""

from __future__ import annotations

from lightning_fabric import Fabric
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy

from ..model import JointModel
from ..settings import TrainSettings
from .layout import Layout
from .replicated import Replicated
from .sharded import Sharded


def make_layout(fabric: Fabric, model: JointModel, train: TrainSettings) -> Layout:
    """Lay a model out on the devices of Fabric, by its strategy, with its optimizer and moving average."""
    kind = Sharded if isinstance(fabric.strategy, ModelParallelStrategy) else Replicated
    return kind(fabric, model, train)
