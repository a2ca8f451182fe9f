"""The built parts of one recipe, ready for the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..components.data.source import Source
from ..components.guidance.guidance import Guidance
from ..components.metrics.metric import Metric
from ..components.samplers.sampler import Sampler
from ..components.streams import StreamSpec
from .evaluation import Extractor
from .model import JointModel
from .pixel import PixelSpace
from .settings import EvaluateSettings, FabricSettings, TrainSettings


@dataclass(frozen=True)
class Assembly:
    """Everything a run is made of.

    Attributes:
        name: the recipe's name.
        text: the recipe as it was given.
        recipe: the recipe as resolved, JSON values only.
        fit_images: images from which the projection's statistics are taken.
        unguided: the guidance of a score that is to judge the bare model.
    """

    name: str
    text: str
    recipe: dict[str, Any]
    source: Source
    space: PixelSpace
    model: JointModel
    guidance: Guidance
    unguided: Guidance
    sampler: Sampler
    extractor: Extractor
    metrics: Mapping[str, Metric]
    streams: Mapping[str, StreamSpec]
    attention: str
    fit_images: int
    train: TrainSettings
    evaluate: EvaluateSettings
    fabric: FabricSettings
