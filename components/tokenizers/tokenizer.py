"""What every tokenizer gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..merging import ALONE, Merge

Normal = Callable[[torch.Size], Tensor]
"""Gives standard normal noise of a shape `(B, ...)`, on the device of the images that it is for.

Who asks does not see where it comes from: that of an image may be a part of what was drawn for a larger batch.
"""


@runtime_checkable
class Tokenizer(Protocol):
    """A frozen map between images `(B, 3, H, W)` in [-1, 1] and the image stream `(B, C, h, w)` at unit scale.

    Encoding has two steps, so that the first, which is costly and always the same, can be stored.

    Attributes:
        normalization: what was measured on the data, kept with the weights of a run; None if nothing is.
    """

    normalization: nn.Module | None

    def encode(self, images: Tensor) -> Tensor:
        """Return codes of images."""
        ...

    def store(self, code: Tensor) -> Tensor:
        """Return codes in the type in which they are kept on disk."""
        ...

    def restore(self, stored: Tensor) -> Tensor:
        """Return codes of what was kept on disk."""
        ...

    def draw(self, code: Tensor, normal: Normal) -> Tensor:
        """Return the image stream of codes; noise that it takes is asked for, at most once."""
        ...

    def decode(self, stream: Tensor) -> Tensor:
        """Return images."""
        ...

    def fit(self, codes: Iterable[Tensor], merge: Merge = ALONE) -> None:
        """Measure what `normalization` keeps, unless it is there, on this process' share of codes."""
        ...
