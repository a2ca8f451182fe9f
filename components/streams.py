"""The one noun of the project: a *stream* is a tensor that the model noises and denoises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Streams = dict[str, "Tensor"]
"""Stream name -> tensor `(B, C, H, W)`."""

Times = dict[str, "Tensor"]
"""Stream name -> time `(B,)` in [0, 1]; 1 is data, 0 is noise."""

IMAGE = "image"
SEMANTIC = "semantic"

Prediction = Literal["x", "v", "eps"]
PathKind = Literal["flow", "diffusion"]


def variance_of(name: str) -> str:
    """Return the key under which a stream's learned variance goes: its output, its loss, its log."""
    return f"{name}/variance"


def unseen_of(name: str) -> str:
    """Return the key under which a noisy stream goes that the network is shown zeros of."""
    return f"{name}/unseen"


def stream_of(key: str) -> str:
    """Return the stream that a key is about: itself, its variance, or what is not shown of it."""
    return key.partition("/")[0]


@dataclass(frozen=True)
class StreamSpec:
    """What every part needs to know of one stream.

    Attributes:
        name: the key of the stream.
        channels: channels of the stream's tensor.
        grid: side of the (square) stream in elements: pixels, latents or feature positions.
        patch: side of the square of elements that makes one token.
        prediction: what the network outputs for it, the clean stream `x`, the velocity `v` or the noise `eps`.
        weight: factor of its loss.
        scale: factor applied to the stream before noise is added. Scaling by s is the same as
            shifting the time t to s*t / (1 + (s-1)*t).
        lead: how far its time runs ahead of the common clock, in clock units (SFD, arXiv 2512.04926).
        own_time: draw its training time independently of the other streams.
        stop_gradient: whether its target is detached from whatever produced it (CoReDi).
        learned_variance: whether the network also says, in as many channels again, where between its bounds the
            log-variance of a denoising step lies (arXiv 2102.09672).
    """

    name: str
    channels: int
    grid: int
    patch: int
    prediction: Prediction = "v"
    weight: float = 1.0
    scale: float = 1.0
    lead: float = 0.0
    own_time: bool = False
    stop_gradient: bool = True
    learned_variance: bool = False

    @property
    def outputs(self) -> int:
        """Channels that the network outputs for it."""
        return self.channels * (2 if self.learned_variance else 1)

    @property
    def token_grid(self) -> int:
        """Tokens along one side."""
        return self.grid // self.patch

    @property
    def tokens(self) -> int:
        """Number of tokens of the stream."""
        return self.token_grid**2

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of one element of the stream."""
        return (self.channels, self.grid, self.grid)


@dataclass(frozen=True)
class Features:
    """What a frozen encoder says about a batch of images.

    Attributes:
        grid: patch features `(B, D, h, w)`, without class or register tokens.
        class_token: one vector an image, `(B, D)`.
    """

    grid: Tensor
    class_token: Tensor
