"""Settings of the attention kernels."""

from __future__ import annotations

from ...registry import register
from ...settings import Settings


class AttentionSettings(Settings):
    """Base of every attention kernel's settings."""


@register("attention", "sdpa", builds=".sdpa:SDPA")
class SDPASettings(AttentionSettings):
    """PyTorch's scaled_dot_product_attention: runs everywhere."""


@register("attention", "xformers", builds=".xformers:XFormers")
class XFormersSettings(AttentionSettings):
    """xformers' memory_efficient_attention: CUDA only."""


@register("attention", "auto", builds=".auto:AutoAttention")
class AutoAttentionSettings(AttentionSettings):
    """On CUDA the faster of SDPA and xformers, measured once a machine; SDPA elsewhere. The screen says which."""
