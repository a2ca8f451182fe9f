"""Settings of the samplers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from ..registry import register
from ..settings import Settings
from ..streams import PathKind

Form = Literal["sigma", "linear", "constant", "sbdm", "decreasing", "increasing_decreasing"]
LastStep = Literal["mean", "euler", "tweedie", "none"]
Variance = Literal["auto", "small", "large"]


class SamplerSettings(Settings):
    """Base of every sampler's settings.

    Attributes:
        path: the kind of way from noise to data that it walks.
        couples_images: whether an image depends, within a tolerance, on those it is drawn with.
    """

    path: ClassVar[PathKind] = "flow"
    couples_images: ClassVar[bool] = False

    def problems(self, length: int | None) -> Iterator[tuple[str, str]]:
        """Yield `(key, message)` for what does not fit a process of `length` discrete steps (None: continuous)."""
        del length
        return iter(())


class StepSettings(SamplerSettings):
    """Base of the samplers that take a fixed number of steps; as many steps of another are another quality."""

    part_specific: ClassVar[frozenset[str]] = frozenset({"steps"})

    steps: int = Field(25, ge=1, le=10_000, description="steps from noise to data")


@register("sampler", "euler", builds=".ode:Euler")
class EulerSettings(StepSettings):
    """First-order ODE solver: one call of the model a step."""

    steps: int = Field(50, ge=1, le=10_000, description="steps from noise to data")


@register("sampler", "heun", builds=".ode:Heun")
class HeunSettings(StepSettings):
    """Second-order ODE solver: two calls of the model a step, one in the last (EDM, JiT)."""


@register("sampler", "dopri5", builds=".dopri5:Dopri5")
class Dopri5Settings(SamplerSettings):
    """Adaptive Dormand-Prince ODE solver of order 5 (torchdiffeq): six calls of the model a step, in steps it chooses.

    The images of a batch share their steps, so that within the tolerance an image depends on its batch.
    """

    couples_images: ClassVar[bool] = True

    rtol: float = Field(1e-3, gt=0, lt=1, description="error of a step, relative to the streams; SiT: 0.001")
    atol: float = Field(1e-6, gt=0, lt=1, description="error of a step, in the streams' unit; SiT: 0.000001")


class StochasticSettings(StepSettings):
    """Base of the samplers that add noise on their way along a flow (SiT, arXiv 2401.08740)."""

    steps: int = Field(250, ge=2, le=10_000, description="steps from noise to data, the last one among them; SiT: 250")
    form: Form = Field("sigma", description="noise over time t; sigma, linear: 1-t, sbdm: (1-t)/t; others as in SiT")
    norm: float = Field(1.0, gt=0, description="factor of the noise, in the form decreasing that of its cosine")
    last: LastStep = Field(
        "mean", description="step without noise: mean, the SDE's; euler, tweedie, the ODE's; none: all steps add noise"
    )
    last_step_size: float = Field(0.04, gt=0, lt=1, description="part of the way that the last step goes; SiT: 0.04")


@register("sampler", "sde", builds=".sde:EulerMaruyama")
class EulerMaruyamaSettings(StochasticSettings):
    """Euler-Maruyama solver of SiT's SDE: one call of the model a step, fresh noise in all but the last."""


@register("sampler", "sde_heun", builds=".sde:StochasticHeun")
class StochasticHeunSettings(StochasticSettings):
    """Stochastic Heun solver of SiT's SDE: fresh noise, then two calls of the model a step, one in the last."""


class ChainSettings(StepSettings):
    """Base of the samplers that walk a diffusion's steps, or an even choice of them."""

    path: ClassVar[PathKind] = "diffusion"

    steps: int = Field(250, ge=2, le=100_000, description="steps from noise to data, at most the process's; DiT: 250")

    def problems(self, length: int | None) -> Iterator[tuple[str, str]]:
        """Yield that the process has fewer steps."""
        if length is not None and self.steps > length:
            yield "steps", f"{self.steps} steps of a process that has {length}"


@register("sampler", "ddpm", builds=".ddpm:Ancestral")
class AncestralSettings(ChainSettings):
    """Ancestral sampling of a diffusion (DDPM, arXiv 2006.11239; DiT): fresh noise in all steps but the last."""

    variance: Variance = Field(
        "auto", description="of a step; small and large are its bounds, auto: learned where it is, else large"
    )


@register("sampler", "ddim", builds=".ddim:Implicit")
class ImplicitSettings(ChainSettings):
    """Implicit sampling of a diffusion (DDIM, arXiv 2010.02502): the same image from the same noise at eta 0."""

    steps: int = Field(50, ge=2, le=100_000, description="steps from noise to data, at most the process's; DDIM: 50")
    eta: float = Field(0.0, ge=0, le=1, description="fresh noise: 0 is none, 1 as much as ddpm's with small variance")
