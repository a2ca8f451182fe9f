"""Where numbers are kept in full."""

from __future__ import annotations

import torch
from torch import Tensor


def full(tensor: Tensor) -> Tensor:
    """Return a tensor in float32, or in float64 if it is that already: for what half precision must not round."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
