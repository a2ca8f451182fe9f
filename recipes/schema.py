"""What a recipe may say: one field a section, each section a part of a kind or plain settings."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field

from ..backends.settings import (
    CacheSettings,
    EvaluateSettings,
    FabricSettings,
    PluginSettings,
    StreamSettings,
    TrainSettings,
)
from ..components.data.settings import DataSettings
from ..components.denoisers.settings import DenoiserSettings, JiTSettings
from ..components.encoders.settings import EncoderSettings
from ..components.guidance.settings import GuidanceSettings, NoGuidanceSettings
from ..components.processes.settings import FlowSettings, ProcessSettings
from ..components.projections.settings import ProjectionSettings
from ..components.registry import PartField
from ..components.samplers.settings import HeunSettings, SamplerSettings
from ..components.settings import Settings
from ..components.tokenizers.settings import PixelSettings, TokenizerSettings


class RecipeSettings(Settings):
    """A whole run."""

    backend: Literal["pixel", "latent"] = Field("pixel", description="space in which images are diffused")
    data: Annotated[DataSettings, PartField("data")] = Field(description="images and labels")
    tokenizer: Annotated[TokenizerSettings, PartField("tokenizer")] = Field(
        default_factory=PixelSettings, description="images to the image stream"
    )
    encoder: Annotated[EncoderSettings, PartField("encoder")] | None = Field(
        None, description="frozen semantic encoder; empty: images alone"
    )
    projection: Annotated[ProjectionSettings, PartField("projection")] | None = Field(
        None, description="features to the semantic stream"
    )
    denoiser: Annotated[DenoiserSettings, PartField("denoiser")] = Field(
        default_factory=JiTSettings, description="the network"
    )
    process: Annotated[ProcessSettings, PartField("process")] = Field(
        default_factory=FlowSettings, description="noise, prediction and loss"
    )
    streams: dict[Literal["image", "semantic"], StreamSettings] = Field(
        default_factory=dict, description="scale, loss weight and time of a stream"
    )
    guidance: Annotated[GuidanceSettings, PartField("guidance")] = Field(
        default_factory=NoGuidanceSettings, description="guidance of samples"
    )
    sampler: Annotated[SamplerSettings, PartField("sampler")] = Field(
        default_factory=HeunSettings, description="solver from noise to data"
    )
    train: TrainSettings = Field(default_factory=TrainSettings)
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings)
    cache: CacheSettings = Field(default_factory=CacheSettings)
    fabric: FabricSettings = Field(default_factory=FabricSettings)
    plugins: list[PluginSettings] = Field(
        default_factory=list, description="Python files with parts of your own; they are run"
    )

    def anchored(self) -> Self:
        """Return the same with absolute paths, but for the folder of caches: it does not change what a run is."""
        return super().anchored().model_copy(update={"cache": self.cache})
