"""Settings of the attention kernels."""

from __future__ import annotations

from ...registry import register
from ...settings import Settings


class AttentionSettings(Settings):
    """Base of every attention kernel's settings."""


@register("attention", "sdpa", builds=".sdpa:SDPA")
class SDPASettings(AttentionSettings):
    """PyTorch's scaled_dot_product_attention: runs everywhere."""


@register("attention", "products", builds=".products:Products")
class ProductsSettings(AttentionSettings):
    """The formula as two matrix products: runs everywhere, and keeps the weights of all pairs of tokens."""


@register("attention", "xformers", builds=".xformers:XFormers")
class XFormersSettings(AttentionSettings):
    """xformers' memory_efficient_attention: CUDA only."""


@register("attention", "auto", builds=".auto:AutoAttention")
class AutoAttentionSettings(AttentionSettings):
    """SDPA, or what is clearly faster: xformers on CUDA, products on a CPU in bfloat16; measured once a machine."""
