"""Encoders that timm knows by name, at an image size of choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..frozen import Frozen
from ..hub import fetch
from ..streams import Features
from ..torchvision_import import ensure_torchvision
from .settings import DINOv2BaseSettings

HUB_FILE = "model.safetensors"


class TimmViT(Frozen):
    """The patch tokens of a frozen vision transformer after its last norm, without class and register tokens.

    Raises:
        ValueError: the weights are not there, or do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: DINOv2BaseSettings) -> None:
        super().__init__()
        self.side, self.grid = settings.image_size, settings.grid()
        network: Any = _network(settings)
        self.network = network.eval().requires_grad_(False)
        self.prefix = network.num_prefix_tokens
        for name in ("mean", "std"):
            values = torch.tensor(network.pretrained_cfg[name])
            self.register_buffer(name, values[:, None, None], persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Features:
        """Encode images `(B, 3, H, W)` in [-1, 1]: grid `(B, width, h, h)` and class token `(B, width)`."""
        images = ((images + 1) / 2 - self.mean) / self.std
        if images.shape[-2:] != (self.side, self.side):
            # Not antialiased: ReDi's code resizes so, and its components were fitted to what comes of it.
            images = F.interpolate(images, (self.side, self.side), mode="bicubic", align_corners=False)
        tokens = self.network.forward_features(images)
        patches = tokens[:, self.prefix :]
        return Features(
            grid=patches.transpose(1, 2).unflatten(2, (self.grid, self.grid)),
            class_token=tokens[:, 0],
        )


def _network(settings: DINOv2BaseSettings) -> nn.Module:
    ensure_torchvision()
    from timm import create_model  # noqa: PLC0415

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = create_model(settings.model, img_size=settings.image_size, num_classes=0)
    if settings.weights is not None:
        _load(network, settings.weights.expanduser())
    elif settings.pretrained:
        _load(network, _download(network))
    return network


def _download(network: Any) -> Path:
    try:
        return fetch(network.pretrained_cfg["hf_hub_id"], HUB_FILE)
    except ValueError as error:
        remedy = "connect to the hub, or copy the file here and give its path, encoder.weights=FILE"
        raise ValueError(f"{error}; {remedy}") from None


def _load(network: nn.Module, path: Path) -> None:
    """Load weights as they are published: timm brings positions to the network's grid."""
    from timm.models.vision_transformer import checkpoint_filter_fn  # noqa: PLC0415

    if not path.is_file():
        raise ValueError(f"weights: there is no file {path}")
    try:
        # Only safetensors: a pickled weight file could run code.
        network.load_state_dict(checkpoint_filter_fn(load_file(path), network))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"weights: {path} is no safetensors file ({error})") from None
    except RuntimeError as error:
        problems = [line.strip() for line in str(error).splitlines()]
        raise ValueError(f"weights: {path} holds another network ({' '.join(problems[1:2])[:200]})") from None
