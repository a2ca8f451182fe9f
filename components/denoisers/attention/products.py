"""Attention as its formula."""

from __future__ import annotations

import torch
from torch import Tensor

from .kernel import AttentionShape
from .settings import AttentionSettings


class Products:
    """Two matrix products with a softmax between them; the softmax is float32.

    It keeps `tokens^2` weights a head for the backward pass, where other kernels compute them again.
    """

    def __init__(self, settings: AttentionSettings) -> None:
        del settings

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Map `(B, tokens, heads, dim)` three times to the same shape."""
        batch, heads = query.shape[0], query.shape[2]
        query, key, value = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
        scores = torch.bmm(query * query.shape[-1] ** -0.5, key.transpose(1, 2))
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
        return torch.bmm(weights, value).unflatten(0, (batch, heads)).transpose(1, 2)

    def settle(self, shape: AttentionShape) -> None:
        """Nothing depends on the shape here."""

    def describe(self, device_type: str) -> str:
        """Return the kernel's name."""
        del device_type
        return "products (as the recipe says)"
