"""The shipped scoring network."""

from __future__ import annotations

from importlib.resources import as_file, files

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..frozen import Frozen
from ..images import to_unit
from ..weight_files import read_safetensors
from ..weights import fill
from .extractor import Extracted
from .settings import ShapesScorerSettings

SIDE = 32


def small_cnn(width: int) -> nn.Sequential:
    """Return the untrained network: four 3x3 convolutions, three of them striding, and `width` pooled features."""
    channels = (32, 64, 96, 128)
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(zip((3, *channels[:-1]), channels, strict=True)):
        layers += [nn.Conv2d(fan_in, fan_out, 3, 1 if index == 0 else 2, 1), nn.GroupNorm(8, fan_out), nn.GELU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * (SIDE // 8) ** 2, width))


class ShapesScorer(Frozen):
    """Frozen; used by metrics, never by a run that it scores."""

    def __init__(self, settings: ShapesScorerSettings) -> None:
        super().__init__()
        self.width = settings.width()
        self.network = small_cnn(self.width)
        with as_file(files(__package__) / "weights" / f"{settings.name}.safetensors") as path:
            fill(self.network, read_safetensors(path))
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Extracted:
        """Read images `(B, 3, H, W)` uint8: features `(B, 64)`."""
        images = to_unit(images)
        if images.shape[-2:] != (SIDE, SIDE):
            images = F.interpolate(images, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
        return Extracted(self.network(images))
