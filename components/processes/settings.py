"""Settings of the processes."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from ..registry import register
from ..settings import Settings
from ..streams import PathKind, Prediction


class TimeSettings(Settings):
    """How training times are drawn: uniform, or t = sigmoid(normal(mean, std))."""

    distribution: Literal["logit_normal", "uniform"] = Field("logit_normal", description="uniform is SiT's")
    mean: float = Field(-0.8, description="of the logit; JiT: -0.8, so that noisy times are seen more often")
    std: float = Field(0.8, gt=0, description="of the logit; JiT: 0.8")


class ProcessSettings(Settings):
    """Base of every process's settings.

    Attributes:
        path: the kind of way from noise to data, which its samplers must walk.
    """

    path: ClassVar[PathKind] = "flow"

    def predictions(self) -> tuple[Prediction, ...]:
        """Return what the network may output, its default first."""
        raise NotImplementedError

    def length(self) -> int | None:
        """Return the number of steps of a discrete process, None for one in continuous time."""
        return None

    def learns_variance(self) -> bool:
        """Return whether the network also outputs variances."""
        return False

    def has_leads(self) -> bool:
        """Return whether streams may run ahead of the common clock."""
        return False


@register("process", "flow", builds=".flow:Flow")
class FlowSettings(ProcessSettings):
    """Straight paths from noise to data, x_t = t x + (1-t) noise; loss on the velocity (SiT, JiT, ReDi)."""

    prediction: Literal["v", "x"] = Field("v", description="what the network outputs, unless a stream says otherwise")
    time: TimeSettings = Field(default_factory=TimeSettings, description="distribution of the training times")
    min_noise: float = Field(0.05, gt=0, lt=1, description="floor of 1-t where an x-prediction is divided by it (JiT)")
    loss_min_noise: float | None = Field(
        None, gt=0, lt=1, description="the same floor in the loss, where it caps the weight 1/(1-t)^2; empty: min_noise"
    )

    def predictions(self) -> tuple[Prediction, ...]:
        """Return the chosen one, then the other."""
        return ("x", "v") if self.prediction == "x" else ("v", "x")

    def has_leads(self) -> bool:
        """Return whether streams may run ahead: they may."""
        return True


@register("process", "ddpm", builds=".ddpm:DDPM")
class DDPMSettings(ProcessSettings):
    """Discrete steps with linearly growing noise; the network predicts the noise (DDPM, DiT, ReDi's DDPM branch)."""

    path: ClassVar[PathKind] = "diffusion"

    steps: int = Field(1000, ge=2, le=100_000, description="noise steps in training")
    beta_start: float = Field(1e-4, gt=0, lt=1, description="variance added by the first step")
    beta_end: float = Field(0.02, gt=0, lt=1, description="variance added by the last step")
    learned_variance: bool = Field(True, description="learn each denoising step's variance from the bound (DiT)")

    def predictions(self) -> tuple[Prediction, ...]:
        """Return the noise."""
        return ("eps",)

    def length(self) -> int:
        """Return the number of steps."""
        return self.steps

    def learns_variance(self) -> bool:
        """Return whether the network also outputs variances."""
        return self.learned_variance
