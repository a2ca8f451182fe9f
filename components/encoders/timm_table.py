"""Pretrained networks of timm that have a short name here, and what is known of them without loading timm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """What a recipe needs to know of a network before it is built.

    Attributes:
        model: timm's name, with the tag of its weights.
        stride: pixels of an image a feature, along one side (the patch of a vision transformer).
        width: feature channels.
        depth: blocks whose features can be taken; 1 where only the last ones can.
        parameters: millions, at its own image size and without a classifier.
        licence: of the weights, as timm states it.
    """

    model: str
    stride: int
    width: int
    depth: int
    parameters: float
    licence: str


SHORT_NAMES: Mapping[str, Architecture] = {
    "dinov2_small": Architecture("vit_small_patch14_dinov2.lvd142m", 14, 384, 12, 22.1, "apache-2.0"),
    "dinov2_base": Architecture("vit_base_patch14_dinov2.lvd142m", 14, 768, 12, 86.6, "apache-2.0"),
    "dinov2_large": Architecture("vit_large_patch14_dinov2.lvd142m", 14, 1024, 24, 304.4, "apache-2.0"),
    "dinov2_giant": Architecture("vit_giant_patch14_dinov2.lvd142m", 14, 1536, 40, 1136.5, "apache-2.0"),
    "dinov2_small_reg": Architecture("vit_small_patch14_reg4_dinov2.lvd142m", 14, 384, 12, 22.1, "apache-2.0"),
    "dinov2_base_reg": Architecture("vit_base_patch14_reg4_dinov2.lvd142m", 14, 768, 12, 86.6, "apache-2.0"),
    "dinov2_large_reg": Architecture("vit_large_patch14_reg4_dinov2.lvd142m", 14, 1024, 24, 304.4, "apache-2.0"),
    "dinov2_giant_reg": Architecture("vit_giant_patch14_reg4_dinov2.lvd142m", 14, 1536, 40, 1136.5, "apache-2.0"),
    "dinov3_small": Architecture("vit_small_patch16_dinov3.lvd1689m", 16, 384, 12, 21.6, "dinov3-license"),
    "dinov3_base": Architecture("vit_base_patch16_dinov3.lvd1689m", 16, 768, 12, 85.6, "dinov3-license"),
    "dinov3_large": Architecture("vit_large_patch16_dinov3.lvd1689m", 16, 1024, 24, 303.1, "dinov3-license"),
    "dinov3_huge_plus": Architecture("vit_huge_plus_patch16_dinov3.lvd1689m", 16, 1280, 32, 840.5, "dinov3-license"),
    "dinov3_convnext_tiny": Architecture("convnext_tiny.dinov3_lvd1689m", 32, 768, 1, 27.8, "dinov3-license"),
    "dinov3_convnext_base": Architecture("convnext_base.dinov3_lvd1689m", 32, 1024, 1, 87.6, "dinov3-license"),
    "siglip2_base": Architecture("vit_base_patch16_siglip_256.v2_webli", 16, 768, 12, 92.9, "apache-2.0"),
    "siglip2_large": Architecture("vit_large_patch16_siglip_256.v2_webli", 16, 1024, 24, 316.0, "apache-2.0"),
    "siglip2_so400m": Architecture("vit_so400m_patch16_siglip_256.v2_webli", 16, 1152, 27, 427.9, "apache-2.0"),
    "clip_base": Architecture("vit_base_patch16_clip_quickgelu_224.openai", 16, 768, 12, 85.8, "apache-2.0"),
    "clip_large": Architecture("vit_large_patch14_clip_quickgelu_224.openai", 14, 1024, 24, 303.2, "apache-2.0"),
    "mae_base": Architecture("vit_base_patch16_224.mae", 16, 768, 12, 85.8, "cc-by-nc-4.0"),
    "mae_large": Architecture("vit_large_patch16_224.mae", 16, 1024, 24, 303.3, "cc-by-nc-4.0"),
    "mae_huge": Architecture("vit_huge_patch14_224.mae", 14, 1280, 32, 630.8, "cc-by-nc-4.0"),
    "eva02_tiny": Architecture("eva02_tiny_patch14_224.mim_in22k", 14, 192, 12, 5.5, "mit"),
    "eva02_small": Architecture("eva02_small_patch14_224.mim_in22k", 14, 384, 12, 21.6, "mit"),
    "eva02_base": Architecture("eva02_base_patch14_224.mim_in22k", 14, 768, 12, 85.8, "mit"),
    "eva02_large": Architecture("eva02_large_patch14_224.mim_in22k", 14, 1024, 24, 303.3, "mit"),
    "ijepa_huge": Architecture("vit_huge_patch14_gap_224.in1k_ijepa", 14, 1280, 32, 630.8, "cc-by-nc-4.0"),
    "vit_tiny": Architecture("vit_tiny_patch16_224.augreg_in21k", 16, 192, 12, 5.5, "apache-2.0"),
    "vit_small": Architecture("vit_small_patch16_224.augreg_in21k", 16, 384, 12, 21.7, "apache-2.0"),
    "vit_base": Architecture("vit_base_patch16_224.augreg_in21k", 16, 768, 12, 85.8, "apache-2.0"),
    "vit_large": Architecture("vit_large_patch16_224.augreg_in21k", 16, 1024, 24, 303.3, "apache-2.0"),
    "deit3_small": Architecture("deit3_small_patch16_224.fb_in22k_ft_in1k", 16, 384, 12, 21.7, "apache-2.0"),
    "deit3_base": Architecture("deit3_base_patch16_224.fb_in22k_ft_in1k", 16, 768, 12, 85.8, "apache-2.0"),
    "deit3_large": Architecture("deit3_large_patch16_224.fb_in22k_ft_in1k", 16, 1024, 24, 303.3, "apache-2.0"),
}
"""DINOv2 (arXiv 2304.07193, 2309.16588), DINOv3 (2508.10104), SigLIP 2 (2502.14786), CLIP (2103.00020), MAE
(2111.06377), EVA-02 (2303.11331), I-JEPA (2301.08243), supervised ViT (2106.10270) and DeiT III (2204.07118).

CLIP's are OpenAI's weights with the activation that they were trained with (QuickGELU). Figures are timm's.
"""
