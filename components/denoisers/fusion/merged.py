"""Token-wise sum, ReDi's default (arXiv 2504.16064, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...streams import IMAGE, StreamSpec
from .settings import MergedSettings


class Merged:
    """`h = x_t W_x + z_t W_z`: one token stands for the same place in every stream."""

    def __init__(self, settings: MergedSettings, streams: Mapping[str, StreamSpec]) -> None:
        del settings
        self.names = tuple(streams)
        self.grids = (streams[IMAGE].token_grid,)

    def join(self, embedded: dict[str, Tensor]) -> Tensor:
        """Add the embeddings."""
        return torch.stack([embedded[name] for name in self.names]).sum(0)

    def split(self, tokens: Tensor) -> dict[str, Tensor]:
        """Give every head all tokens."""
        return dict.fromkeys(self.names, tokens)
