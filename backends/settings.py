"""Settings of a run that are not parts: training, evaluation, hardware."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..components.data.settings import DataSettings
from ..components.extractors.settings import ExtractorSettings, ShapesScorerSettings
from ..components.metrics.settings import (
    DensityCoverageSettings,
    FrechetSettings,
    KernelSettings,
    MetricSettings,
    PrecisionRecallSettings,
)
from ..components.registry import PartField
from ..components.settings import Settings
from ..components.streams import Prediction
from ..components.user_cache import expanded

MAX_SEED = 2**63 - 1
Auto = Literal["auto"]
Beta = Annotated[float, Field(ge=0, lt=1)]
ActivationCheckpointing = Literal["none", "selective"] | Annotated[int, Field(ge=1)]
Labels = Literal["balanced", "random"]


class StreamSettings(Settings):
    """What a recipe may say of one stream."""

    scale: float = Field(1.0, gt=0, description="factor on the stream before noise is added; shifts its time")
    weight: float | Auto = Field(
        1.0, description="factor of its loss; auto: 2 / (1 + std^2), which keeps its share whatever the scale"
    )
    prediction: Prediction | None = Field(None, description="x, v or eps; empty: the process's")
    grid: Literal["own", "image"] = Field(
        "own", description="semantic only; image: brought to the image stream's grid bilinearly, as ReDi does"
    )
    lead: float = Field(0.0, ge=0, le=1, description="how far its time runs ahead of the common clock (SFD: 0.3)")
    own_time: bool = Field(False, description="draw its training time independently")
    stop_gradient: bool = Field(True, description="detach its target; off only to see what it prevents")

    @model_validator(mode="after")
    def _weight_not_negative(self) -> StreamSettings:
        if self.weight != "auto" and self.weight < 0:
            raise ValueError("weight cannot be negative")
        return self


class TrainSettings(Settings):
    """The training loop."""

    steps: int = Field(2000, ge=1, description="optimizer steps")
    batch_size: int = Field(64, ge=1, description="images a step, over all devices")
    micro_batch: int | Auto = Field("auto", description="images a device and backward pass; auto: its whole share")
    lr: float = Field(1e-3, gt=0, description="AdamW learning rate, constant after the warm-up")
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    betas: list[Beta] = Field(default_factory=lambda: [0.9, 0.999], min_length=2, max_length=2)
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: no clipping")
    ema: float = Field(0.9999, ge=0, lt=1, description="decay of the moving average, min(ema, (step - 1) / (step + 9))")
    class_dropout: float = Field(0.1, ge=0, le=1, description="share of labels replaced by 'none', for guidance")
    semantic_dropout: float = Field(
        0.0, ge=0, le=1, description="share of images that go without the semantic stream (ReDi: 0.2 for its guidance)"
    )
    checkpoint: Path | None = Field(
        None, description="weights to start from: the moving average of a run, or of one of its checkpoints"
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="decides weights, data order, times and noise")
    log_every: int = Field(50, ge=1, description="steps between lines of metrics.jsonl")
    picture_every: int = Field(500, ge=0, description="steps between pictures; 0: only at the end")
    picture_images: int = Field(64, ge=0, description="generated images in a picture; 0: none")
    health_every: int = Field(
        250,
        ge=0,
        description="steps between measurements of what a semantic stream that is learned holds, beside a fixed "
        "projection; 0: only at the end",
    )
    checkpoint_every: int = Field(1000, ge=0, description="steps between checkpoints; 0: only at the end")
    skip_nonfinite: int = Field(
        0, ge=0, description="steps with a loss or gradient that is not finite that are left out before the run fails"
    )
    keep: int = Field(2, ge=1, description="how many of the newest checkpoints stay")
    keep_every: int = Field(0, ge=0, description="checkpoints of multiples of so many steps stay for good; 0: none do")
    activation_checkpointing: ActivationCheckpointing = Field(
        "none",
        description="less memory for more arithmetic; n: every n-th block is computed again in the backward pass; "
        "selective: all but matrix products and attention is",
    )
    workers: int | Auto = Field("auto", description="processes that read images; auto: none on a CPU, 4 else")

    @model_validator(mode="after")
    def _whole_numbers(self) -> TrainSettings:
        if self.micro_batch != "auto" and not 1 <= self.micro_batch <= self.batch_size:
            raise ValueError(f"micro_batch must lie between 1 and batch_size ({self.batch_size})")
        if self.workers != "auto" and self.workers < 0:
            raise ValueError("workers cannot be negative")
        return self

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield `(key, message)` for what is not there."""
        if self.checkpoint is not None and not expanded(self.checkpoint).is_dir():
            yield "checkpoint", f"there is no run or checkpoint {self.checkpoint}"


def _default_metrics() -> list[MetricSettings]:
    return [FrechetSettings(), KernelSettings(), PrecisionRecallSettings(), DensityCoverageSettings()]


class ReferenceSettings(Settings):
    """What generated images are compared with: images of the recipe's data, of another source, or a file."""

    images: int = Field(10_000, ge=2, description="at most so many; a file of more is drawn from fairly")
    data: Annotated[DataSettings, PartField("data")] | None = Field(
        None, description="another source of images; empty: the recipe's own data"
    )
    folder: Path | None = Field(None, description="folder of image files, cropped to the size of the recipe's images")
    file: Path | None = Field(
        None, description=".npz as ADM and JiT publish them: images (arr_0), or mu and sigma of Inception's features"
    )

    @classmethod
    def in_full(cls, value: object) -> object:
        """Return what one value is short for: a number of images, a file by its suffix, or a folder."""
        if isinstance(value, int) and not isinstance(value, bool):
            return {"images": value}
        if isinstance(value, str):
            number = re.fullmatch("[0-9][0-9_]*", value)
            return {"images" if number else "file" if value.lower().endswith(".npz") else "folder": value}
        return value

    @model_validator(mode="after")
    def _one_place(self) -> ReferenceSettings:
        if sum(place is not None for place in (self.data, self.folder, self.file)) > 1:
            raise ValueError("takes one of data, folder and file")
        return self

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield `(key, message)` for what is not there."""
        if self.folder is not None and not expanded(self.folder).is_dir():
            yield "folder", f"there is no folder {self.folder}"
        if self.file is not None and not expanded(self.file).is_file():
            yield "file", f"there is no file {self.file}"
        for key, message in self.data.problems() if self.data is not None else ():
            yield "data", f"{key}: {message}"


class EvaluateSettings(Settings):
    """How a model is scored."""

    samples: int = Field(2000, ge=0, description="images generated for a score; 0: no score")
    metrics: list[Annotated[MetricSettings, PartField("metric")]] = Field(default_factory=_default_metrics)
    extractor: Annotated[ExtractorSettings, PartField("extractor")] = Field(
        default_factory=ShapesScorerSettings, description="network whose features are compared"
    )
    reference: ReferenceSettings = Field(
        default_factory=ReferenceSettings, description="a number of images, a folder, an .npz file, or a section"
    )
    semantic_cells: int = Field(
        2, ge=0, le=32, description="the semantic stream is scored, too, averaged to so many cells a side; 0: it is not"
    )
    guided: bool = Field(False, description="score with the recipe's guidance; off: the bare model")
    weights: Literal["average", "last"] = Field("average", description="the moving average, or the last step's")
    labels: Labels = Field(
        "balanced", description="balanced: image i is of class i modulo their number; random: drawn for each image"
    )
    every: int = Field(0, ge=0, description="steps between scores during training; 0: only at the end")
    seed: int = Field(1_000, ge=0, le=MAX_SEED, description="seed of the generated images")
    batch_size: int = Field(250, ge=1, description="images generated at once, a device")


class CacheSettings(Settings):
    """Stored moments and features, made by `latsem cache`."""

    use: Literal["auto", "never", "required"] = Field(
        "auto", description="auto: if there is one of these data and networks; never: encode on line"
    )
    folder: Path = Field(Path("caches"), description="folder of all caches")
    features: Literal["auto", "projected", "full", "8bit", "basis"] = Field(
        "auto", description="auto: full, or projected by a fixed projection, which full serves, too"
    )
    components: int = Field(256, ge=1, description="size of the basis, where features are stored in one")
    shard_images: int = Field(4096, ge=1, description="images in a file")


class PluginSettings(Settings):
    """A Python file with parts of one's own, and what it holds."""

    file: Path = Field(description="relative to the recipe that names it; on the command line, to this folder")
    sha256: str | None = Field(
        None, pattern="[0-9a-f]{64}", description="digest that the file must have; a run notes that of what it ran"
    )

    @classmethod
    def in_full(cls, value: object) -> object:
        """Return what a name alone is short for."""
        return {"file": value} if isinstance(value, str) else value


class FabricSettings(Settings):
    """Hardware, handed to Lightning Fabric."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int | Auto = Field("auto", description="number of devices; auto: all GPUs, or one CPU process")
    num_nodes: int = Field(1, ge=1)
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        "auto",
        description="ddp, also auto with several devices: all of a model on each; fsdp: a part of its weights, "
        "gradients, optimizer and moving average on each",
    )
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto", description="auto: bf16-mixed where the hardware computes it natively"
    )
    cuda_graphs: bool = Field(False, description="sampling replays the network's kernels as CUDA graphs; CUDA only")
    compile: bool | Auto = Field(
        "auto", description="torch.compile of the network's blocks; auto: on CUDA, and for long runs on a CPU"
    )

    @model_validator(mode="after")
    def _devices_positive(self) -> FabricSettings:
        if self.devices != "auto" and self.devices < 1:
            raise ValueError("devices must be at least 1")
        return self
