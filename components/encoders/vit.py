"""The shipped encoders: one small timm `VisionTransformer`, trained in three ways."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..frozen import Frozen
from ..seeded import seeded
from ..streams import Features
from ..torchvision_import import ensure_torchvision
from ..weight_files import read_safetensors
from ..weights import fill
from .settings import RandomViTSettings, SmallViTSettings

SIDE, PATCH, WIDTH, DEPTH, HEADS = 32, 8, 96, 3, 3


def small_vit() -> nn.Module:
    """Return the untrained network: 32x32 images, 4x4 patches of 8x8, width 96, depth 3, 0.47 M parameters.

    Patches are embedded by three strided convolutions of even width, so that a token lies over the middle of its
    patch. A plain linear embedding learns objects several times slower (arXiv 2106.14881 found the same at scale).
    """
    ensure_torchvision()
    from timm.models.vision_transformer import VisionTransformer  # noqa: PLC0415

    network = VisionTransformer(
        img_size=SIDE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=0
    )
    network.patch_embed.proj = nn.Sequential(
        nn.Conv2d(3, 32, 4, 2, 1),
        nn.GroupNorm(4, 32),
        nn.GELU(),
        nn.Conv2d(32, 64, 4, 2, 1),
        nn.GroupNorm(8, 64),
        nn.GELU(),
        nn.Conv2d(64, WIDTH, 4, 2, 1),
    )
    nn.init.normal_(network.pos_embed, std=0.2)
    return cast(nn.Module, network)


class _FrozenViT(Frozen):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Features:
        """Encode images `(B, 3, H, W)` in [-1, 1]: grid `(B, 96, 4, 4)` and class token `(B, 96)`."""
        if images.shape[-2:] != (SIDE, SIDE):
            images = F.interpolate(images, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
        tokens = self.network.forward_features(images)  # type: ignore[operator]
        grid = tokens[:, 1:].transpose(1, 2).unflatten(2, (SIDE // PATCH, SIDE // PATCH))
        return Features(grid=grid, class_token=tokens[:, 0])


class ShapesEncoder(_FrozenViT):
    """A trained encoder; its weights are shipped under the name of its settings."""

    def __init__(self, settings: SmallViTSettings) -> None:
        network = small_vit()
        with as_file(files(__package__) / "weights" / f"{settings.name}.safetensors") as path:
            fill(network, read_safetensors(path))
        super().__init__(network)


class RandomEncoder(_FrozenViT):
    """Random features; the weights are a function of the seed alone."""

    def __init__(self, settings: RandomViTSettings) -> None:
        with seeded(settings.seed):
            network = small_vit()
        super().__init__(network)
