"""Token-wise sum, ReDi's default (arXiv 2504.16064, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ...streams import IMAGE, StreamSpec
from .settings import MergedSettings


class Merged:
    """`h = x_t W_x + z_t W_z`: one token stands for the same place in every stream.

    Where a stream is coarser than the image (our extension), each of its tokens is added to the square of image tokens
    that it covers, and its head reads the mean of that square.
    """

    def __init__(self, settings: MergedSettings, streams: Mapping[str, StreamSpec]) -> None:
        del settings
        self.grid = streams[IMAGE].token_grid
        self.grids = (self.grid,)
        self.finer = {name: self.grid // spec.token_grid for name, spec in streams.items()}

    def join(self, embedded: dict[str, Tensor]) -> Tensor:
        """Add the embeddings."""
        return torch.stack([self._spread(embedded[name], finer) for name, finer in self.finer.items()]).sum(0)

    def split(self, tokens: Tensor) -> dict[str, Tensor]:
        """Give every head all tokens; streams of the image's grid share one tensor."""
        return {name: self._gather(tokens, finer) for name, finer in self.finer.items()}

    def _spread(self, tokens: Tensor, finer: int) -> Tensor:
        if finer == 1:
            return tokens
        grid = tokens.unflatten(1, (self.grid // finer, self.grid // finer))
        return grid.repeat_interleave(finer, 1).repeat_interleave(finer, 2).flatten(1, 2)

    def _gather(self, tokens: Tensor, finer: int) -> Tensor:
        if finer == 1:
            return tokens
        grid = tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return F.avg_pool2d(grid, finer).flatten(2).transpose(1, 2)
