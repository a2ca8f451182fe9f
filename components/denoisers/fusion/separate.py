"""Token concatenation, ReDi's second fusion (arXiv 2504.16064, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...streams import StreamSpec
from .settings import SeparateSettings


class Separate:
    """Every stream keeps tokens of its own, one after another; attention is where they meet."""

    def __init__(self, settings: SeparateSettings, streams: Mapping[str, StreamSpec]) -> None:
        del settings
        self.grids = tuple(spec.token_grid for spec in streams.values())
        self.counts = {name: spec.tokens for name, spec in streams.items()}

    def join(self, embedded: dict[str, Tensor]) -> Tensor:
        """Concatenate the tokens."""
        return torch.cat([embedded[name] for name in self.counts], dim=1)

    def split(self, tokens: Tensor) -> dict[str, Tensor]:
        """Give every head its own tokens."""
        return dict(zip(self.counts, tokens.split(list(self.counts.values()), dim=1), strict=True))
