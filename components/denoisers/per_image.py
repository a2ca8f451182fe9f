"""Layers on one vector an image, which give an image the same bits whatever is computed beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROWS_A_THREAD = 8


class PerImage(nn.Sequential):
    """Layers that map vectors `(B, width)`.

    With only a few rows for each of its threads a CPU's matrix product takes another way and rounds otherwise: an image
    would depend, in its last bit, on the size of its batch. Without gradient, small batches are therefore filled up.
    Tokens need no such care: every image brings many rows.
    """

    def forward(self, vectors: Tensor) -> Tensor:
        """Map vectors `(B, width)`."""
        least = ROWS_A_THREAD * torch.get_num_threads() if vectors.device.type == "cpu" else 1
        if torch.is_grad_enabled() or len(vectors) >= least:
            return super().forward(vectors)
        filled: Tensor = super().forward(F.pad(vectors, (0, 0, 0, least - len(vectors))))
        return filled[: len(vectors)]
