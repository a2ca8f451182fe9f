"""Settings of the processes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..registry import register
from ..settings import Settings
from ..streams import Prediction


class TimeSettings(Settings):
    """How training times are drawn: uniform, or t = sigmoid(normal(mean, std))."""

    distribution: Literal["logit_normal", "uniform"] = Field("logit_normal", description="uniform is SiT's")
    mean: float = Field(-0.8, description="of the logit; JiT: -0.8, so that noisy times are seen more often")
    std: float = Field(0.8, gt=0, description="of the logit; JiT: 0.8")


class ProcessSettings(Settings):
    """Base of every process's settings."""

    prediction: Prediction = Field("v", description="what the network outputs, unless a stream says otherwise")


@register("process", "flow", builds=".flow:Flow")
class FlowSettings(ProcessSettings):
    """Straight paths from noise to data, x_t = t x + (1-t) noise; loss on the velocity (SiT, JiT, ReDi)."""

    time: TimeSettings = Field(default_factory=TimeSettings, description="distribution of the training times")
    min_noise: float = Field(0.05, gt=0, lt=1, description="floor of 1-t where an x-prediction is divided by it (JiT)")
    loss_min_noise: float | None = Field(
        None, gt=0, lt=1, description="the same floor in the loss, where it caps the weight 1/(1-t)^2; empty: min_noise"
    )
