"""Layers on one vector an image, which give an image the same bits whatever is computed beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..rows import least_rows


class PerImage(nn.Sequential):
    """Layers that map vectors `(B, width)`; without gradient, small batches are filled up (see `least_rows`).

    Tokens need no such care: every image brings many rows.
    """

    def forward(self, vectors: Tensor) -> Tensor:
        """Map vectors `(B, width)`."""
        if torch.is_grad_enabled():
            return super().forward(vectors)
        missing = least_rows(vectors.device) - len(vectors)
        if missing <= 0:
            return super().forward(vectors)
        filled: Tensor = super().forward(F.pad(vectors, (0, 0, 0, missing)))
        return filled[: len(vectors)]
