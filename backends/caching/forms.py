"""Forms in which features are stored, from a few channels to all of them.

A fixed projection leaves a few channels, and storing those is all that is needed. A coevolving one needs the features
themselves: in half precision, in 8 bits, or as their components in an orthogonal basis that keeps most of the variance.
Components are turned back into features when they are read, so a projection learns in the span of the basis, and its
weights fit features that are encoded on line.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ...components.merging import ALONE, Merge
from ...components.projections.projection import Projection, project
from ...components.projections.statistics import FeatureStatistics

STORED = torch.float16
WIDENED = 1.25


@dataclass(frozen=True)
class Restored:
    """Stored features as the model takes them: features `(B, D, h, w)`, or the semantic stream made of them."""

    features: Tensor | None = None
    semantic: Tensor | None = None


class FeatureForm(Protocol):
    """One form. `state` is everything it needs to know, kept once beside the shards.

    Attributes:
        channels: numbers stored for each position.
        width: bytes of each of them.
        restores_features: whether features are what comes back, not the semantic stream.
    """

    channels: int
    width: int
    restores_features: bool
    state: dict[str, Tensor]

    def fit(self, grids: Iterable[Tensor], merge: Merge = ALONE) -> None:
        """Measure what the form depends on, on this process' share of feature grids `(B, D, h, w)` of the data."""
        ...

    def pack(self, grid: Tensor) -> Tensor:
        """Return what is stored of feature grids."""
        ...

    def unpack(self, stored: Tensor) -> Restored:
        """Return what the model takes."""
        ...


@dataclass
class FullFeatures:
    """All features in half precision."""

    channels: int
    width: int = 2
    restores_features: bool = True
    state: dict[str, Tensor] = field(default_factory=dict)

    def fit(self, grids: Iterable[Tensor], merge: Merge = ALONE) -> None:
        """Measure nothing."""
        del grids, merge

    def pack(self, grid: Tensor) -> Tensor:
        """Round to half precision."""
        return grid.to(STORED)

    def unpack(self, stored: Tensor) -> Restored:
        """Return features."""
        return Restored(features=stored.float())


@dataclass
class EightBitFeatures:
    """All features as 8-bit integers, 127 steps either way from the middle of each channel's range."""

    channels: int
    width: int = 1
    restores_features: bool = True
    state: dict[str, Tensor] = field(default_factory=dict)

    def fit(self, grids: Iterable[Tensor], merge: Merge = ALONE) -> None:
        """Measure the range of every channel, and widen it; what lies outside even so is clipped later."""
        low, high = torch.full((self.channels,), torch.inf), torch.full((self.channels,), -torch.inf)
        for grid in grids:
            values = grid.float().cpu().movedim(1, -1).flatten(0, -2)
            low, high = torch.minimum(low, values.amin(0)), torch.maximum(high, values.amax(0))
        low, high = -merge.highest(-low).cpu(), merge.highest(high).cpu()
        step = (WIDENED * (high - low) / 254).clamp_min(torch.finfo(torch.float32).tiny)
        self.state = {"middle": (low + high) / 2, "step": step}

    def pack(self, grid: Tensor) -> Tensor:
        """Round to steps."""
        middle, step = (self.state[name].to(grid.device)[:, None, None] for name in ("middle", "step"))
        return ((grid.float() - middle) / step).round().clamp(-127, 127).to(torch.int8)

    def unpack(self, stored: Tensor) -> Restored:
        """Return features."""
        middle, step = (self.state[name].to(stored.device)[:, None, None] for name in ("middle", "step"))
        return Restored(features=stored.float() * step + middle)


@dataclass
class BasisFeatures:
    """The first principal components of the standardised features, in half precision."""

    channels: int
    features: int
    width: int = 2
    restores_features: bool = True
    state: dict[str, Tensor] = field(default_factory=dict)

    def fit(self, grids: Iterable[Tensor], merge: Merge = ALONE) -> None:
        """Find the basis; `kept` is the share of the variance that it holds."""
        statistics = FeatureStatistics(grids, self.features, merge)
        basis, variance = statistics.principal_components(self.channels)
        kept = variance.sum() / statistics.correlation.trace()
        found = {"mean": statistics.mean, "std": statistics.std, "basis": basis, "kept": kept}
        self.state = {name: value.float().contiguous() for name, value in found.items()}

    def pack(self, grid: Tensor) -> Tensor:
        """Return components."""
        mean, std = self._moments(grid)
        return project((grid.float() - mean) / std, self.state["basis"].to(grid.device)).to(STORED)

    def unpack(self, stored: Tensor) -> Restored:
        """Return features, what lies outside the basis left out."""
        mean, std = self._moments(stored)
        return Restored(features=project(stored.float(), self.state["basis"].T.to(stored.device)) * std + mean)

    def _moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (self.state[name].to(like.device)[:, None, None] for name in ("mean", "std"))
        return mean, std


class ProjectedFeatures:
    """The semantic stream itself, in half precision, by a fixed projection whose state is kept."""

    width = 2
    restores_features = False

    def __init__(self, projection: Projection) -> None:
        self.projection, self.channels = projection, projection.channels

    @property
    def state(self) -> dict[str, Tensor]:
        """What the projection has measured."""
        return {name: value.cpu().contiguous() for name, value in self.projection.state_dict().items()}

    @state.setter
    def state(self, state: dict[str, Tensor]) -> None:
        self.projection.load_state_dict(state)

    def fit(self, grids: Iterable[Tensor], merge: Merge = ALONE) -> None:
        """Fit the projection."""
        self.projection.fit(grids, merge)

    def pack(self, grid: Tensor) -> Tensor:
        """Project."""
        stream: Tensor = self.projection(grid)
        return stream.to(STORED)

    def unpack(self, stored: Tensor) -> Restored:
        """Return the semantic stream."""
        return Restored(semantic=stored.float())
