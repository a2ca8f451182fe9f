"""Settings of the samplers."""

from __future__ import annotations

from pydantic import Field

from ..registry import register
from ..settings import Settings


class SamplerSettings(Settings):
    """Base of every sampler's settings."""

    steps: int = Field(25, ge=1, le=10_000, description="steps from noise to data")


@register("sampler", "euler", builds=".ode:Euler")
class EulerSettings(SamplerSettings):
    """First-order ODE solver: one call of the model a step."""

    steps: int = Field(50, ge=1, le=10_000, description="steps from noise to data")


@register("sampler", "heun", builds=".ode:Heun")
class HeunSettings(SamplerSettings):
    """Second-order ODE solver: two calls of the model a step, one in the last (EDM, JiT)."""
