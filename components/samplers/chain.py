"""The chain of denoising steps that a diffusion sampler walks: all of the path's, or an even choice of them.

As in DiT's `respace.py`: the chosen steps are a chain of their own, with the noise levels of the path at these steps,
and the model is asked at the path's own steps. Nothing is clipped.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise, repeat

from torch import Tensor

from ..paths import DiffusionPath
from ..predictor import Predictor, Progress
from ..streams import Streams
from .settings import ChainSettings


@dataclass(frozen=True)
class ChainStep:
    """One denoising step.

    Attributes:
        index: the step of the path at which the model is asked.
        kept: abar, the part of the data's variance that is kept there.
        kept_next: the same where the step leads, 1 for data.
    """

    index: int
    kept: float
    kept_next: float

    @property
    def beta(self) -> float:
        """Variance that the chain adds between the two, an upper bound of the denoising step's."""
        return 1 - self.kept / self.kept_next

    @property
    def posterior_variance(self) -> float:
        """Variance between the two of known data, a lower bound of the denoising step's; 0 where data is reached."""
        return self.beta * (1 - self.kept_next) / (1 - self.kept)

    @property
    def reaches_data(self) -> bool:
        """Whether it is the last one."""
        return self.kept_next == 1

    def clean(self, noisy: Tensor, eps: Tensor) -> Tensor:
        """Return the clean stream that predicted noise implies."""
        return (noisy - math.sqrt(1 - self.kept) * eps) / math.sqrt(self.kept)


def spaced_chain(path: DiffusionPath, steps: int) -> list[ChainStep]:
    """Return `steps` steps evenly over the path, both ends among them, from noise to data.

    Raises:
        ValueError: for more steps than the path has.
    """
    if steps > len(path):
        raise ValueError(f"sampler.steps is {steps}, but the process has {len(path)} steps: take at most as many")
    # Added up in floating point as DiT does: a product would round some halves to the other side (of 27 steps, one).
    stride = (len(path) - 1) / (steps - 1)
    indices = [round(place) for place in accumulate(repeat(stride, steps - 1), initial=0.0)]
    levels = [1.0, *path.alphas_bar[indices].tolist()]
    chain = [
        ChainStep(index, kept, kept_next) for index, (kept_next, kept) in zip(indices, pairwise(levels), strict=True)
    ]
    return chain[::-1]


class ChainSampler(ABC):
    """The walk; subclasses say where a step leads and how far its noise spreads.

    Attributes:
        noisy: whether steps add fresh noise, all but the one that reaches data.
    """

    noisy: bool = True

    def __init__(self, settings: ChainSettings, path: DiffusionPath) -> None:
        self.path, self.chain = path, spaced_chain(path, settings.steps)

    def sample(
        self,
        predict: Predictor,
        noise: Streams,
        fresh_noise: Callable[[], Streams],
        progress: Progress | None = None,
    ) -> Streams:
        """Denoise from the noisiest step to data."""
        streams = noise
        for done, step in enumerate(self.chain, start=1):
            predicted = predict(streams, self.path.clock(step.index))
            streams = {name: self.mean(step, stream, predicted[name]) for name, stream in streams.items()}
            if self.noisy and not step.reaches_data:
                fresh = fresh_noise()
                streams = {name: mean + self.std(step, name, predicted) * fresh[name] for name, mean in streams.items()}
            if progress:
                progress(done, len(self.chain))
        return streams

    @abstractmethod
    def mean(self, step: ChainStep, noisy: Tensor, eps: Tensor) -> Tensor:
        """Return where a step leads without fresh noise, `(B, C, H, W)` like the noisy stream."""

    @abstractmethod
    def std(self, step: ChainStep, name: str, predicted: Streams) -> Tensor | float:
        """Return the standard deviation of a stream's fresh noise, for a step that does not reach data."""
