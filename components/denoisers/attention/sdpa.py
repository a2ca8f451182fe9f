"""PyTorch's own attention."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from .kernel import AttentionShape
from .settings import AttentionSettings


class SDPA:
    """The reference kernel."""

    def __init__(self, settings: AttentionSettings) -> None:
        del settings

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Map `(B, tokens, heads, dim)` three times to the same shape."""
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)

    def settle(self, shape: AttentionShape) -> None:
        """Nothing depends on the shape here."""

    def describe(self, device_type: str) -> str:
        """Return the kernel's name."""
        del device_type
        return "sdpa (as the recipe says)"
