"""What enters a transformer: patches, positions, times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..precision import full
from ..streams import IMAGE, StreamSpec, Times
from .per_image import PerImage


class PatchEmbedding(nn.Module):
    """Patches of a stream to tokens, through a narrow layer where that is narrower than the patch.

    The narrow layer is JiT's (arXiv 2511.13720, section 4.3): natural images lie on few dimensions.
    """

    def __init__(self, spec: StreamSpec, width: int, bottleneck: int | None) -> None:
        super().__init__()
        self.patch = spec.patch
        values = spec.channels * spec.patch**2
        self.layers = (
            nn.Sequential(nn.Linear(values, bottleneck, bias=False), nn.Linear(bottleneck, width))
            if bottleneck is not None and bottleneck < values
            else nn.Linear(values, width)
        )

    def forward(self, stream: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to tokens `(B, H W / patch^2, width)`, row by row."""
        patches = F.pixel_unshuffle(stream, self.patch).flatten(2).transpose(1, 2)
        tokens: Tensor = self.layers(patches)
        return tokens


class TimeEmbedding(nn.Module):
    """Sinusoids of a time (256, cos before sin, periods up to 10,000), then a two-layer SiLU network (DiT, SiT).

    The time is t in [0, 1] for a flow and the step for a diffusion, as the process says.
    """

    def __init__(self, width: int, frequencies: int = 256) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = PerImage(nn.Linear(frequencies, width), nn.SiLU(), nn.Linear(width, width))
        for layer in (self.mlp[0], self.mlp[2]):
            nn.init.normal_(layer.weight, std=0.02)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, time: Tensor) -> Tensor:
        """Map times `(B,)` to vectors `(B, width)`."""
        half = self.frequencies // 2
        time = full(time)
        rate = torch.exp(-math.log(10_000) * torch.arange(half, device=time.device, dtype=time.dtype) / half)
        angle = time[:, None] * rate
        embedded: Tensor = self.mlp(torch.cat([angle.cos(), angle.sin()], dim=1))
        return embedded


class ClockEmbedding(nn.Module):
    """One embedding for the clock that streams share, one more for each stream with a time of its own."""

    def __init__(self, streams: Mapping[str, StreamSpec], width: int) -> None:
        super().__init__()
        own_clock = any(spec.lead or spec.own_time for spec in streams.values())
        self.names = tuple(streams) if own_clock else (IMAGE,)
        self.embeddings = nn.ModuleDict({name: TimeEmbedding(width) for name in self.names})

    def forward(self, times: Times) -> Tensor:
        """Map times `(B,)` by stream to vectors `(B, width)`."""
        return torch.stack([self.embeddings[name](times[name]) for name in self.names]).sum(0)


def coordinates(grid: int, finest: int) -> Tensor:
    """Return where the tokens of a grid lie, in tokens of the finest grid, float64: equal places, equal numbers."""
    return (torch.arange(grid, dtype=torch.float64) + 0.5) * (finest / grid) - 0.5


def sincos_positions(grids: Sequence[int], width: int) -> Tensor:
    """Return fixed 2-D sinusoidal positions of tokens `(sum grid^2, width)`.

    Half of the width is for columns, half for rows (MAE).
    """
    rate = 1.0 / 10_000 ** (torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    positions = []
    for grid in grids:
        angle = coordinates(grid, max(grids))[:, None] * rate
        one_axis = torch.cat([angle.sin(), angle.cos()], dim=1)
        positions.append(torch.cat([one_axis.repeat(grid, 1), one_axis.repeat_interleave(grid, 0)], dim=1))
    return torch.cat(positions).float()


class Rotary(nn.Module):
    """2-D rotary positions: half of each head turns with the row, half with the column.

    Tokens in front of the grids (class tokens) are not turned.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, grids: Sequence[int], head_dim: int, prefix: int = 0) -> None:
        super().__init__()
        rate = 1.0 / 10_000 ** (torch.arange(head_dim // 4, dtype=torch.float64) / (head_dim / 4))
        angles = [torch.zeros(prefix, head_dim // 2, dtype=torch.float64)]
        for grid in grids:
            along = coordinates(grid, max(grids))[:, None] * rate
            angles.append(torch.cat([along.repeat_interleave(grid, 0), along.repeat(grid, 1)], dim=1))
        angle = torch.cat(angles)[:, None, None, :]
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)

    def forward(self, heads: Tensor) -> Tensor:
        """Turn `(B, tokens, any, heads, dim)`, float32; pairs are (i, i + dim/2)."""
        first, second = heads.chunk(2, dim=-1)
        return torch.cat([first * self.cos - second * self.sin, second * self.cos + first * self.sin], dim=-1)
