"""What changes the weights of a run, and what follows them: the optimizer, and the moving average."""

from __future__ import annotations

import torch
from torch import nn

from ..components.torchvision_import import ensure_torchvision
from .model import JointModel
from .settings import TrainSettings


def make_ema(model: nn.Module, decay: float) -> nn.Module:
    """Return timm's moving average of a model in float32, with decay min(decay, (step - 1) / (step + 9)).

    The second term is the usual start of a moving average: it spans a tenth of the steps so far until it has reached
    its full length.
    """
    ensure_torchvision()
    from timm.utils import ModelEmaV3  # noqa: PLC0415

    ema: nn.Module = ModelEmaV3(model, decay=decay, use_warmup=True, warmup_gamma=10.0, warmup_power=1.0)
    return ema


def make_optimizer(model: JointModel, train: TrainSettings) -> torch.optim.AdamW:
    """Return AdamW; a projection with its own learning rate is its own group.

    Fused: that one can leave out a step of which it is told on the device.
    """
    own_rate = model.projection.learning_rate if model.projection is not None else None
    projection = list(model.projection.parameters()) if model.projection is not None else []
    inside = {id(parameter) for parameter in projection}
    groups = [{"params": [p for p in model.parameters() if id(p) not in inside], "lr": train.lr}]
    if projection:
        groups.append({"params": projection, "lr": own_rate or train.lr})
    betas = (train.betas[0], train.betas[1])
    return torch.optim.AdamW(groups, betas=betas, weight_decay=train.weight_decay, fused=True)
