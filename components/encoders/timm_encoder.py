"""Encoders of timm: frozen networks, read as they were trained, at an image size of choice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..frozen import Frozen
from ..hub import fetch
from ..seeded import seeded
from ..streams import Features
from ..user_cache import expanded
from . import packaged, timm_probe
from .settings import TimmSettings
from .timm_table import Package
from .timm_weights import loaded

HUB_FILE = "model.safetensors"


class TimmEncoder(Frozen):
    """The features of blocks or stages of a frozen network, without class and register tokens.

    Raises:
        ValueError: the weights are not there, or do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: TimmSettings) -> None:
        super().__init__()
        self.side, self.layers, self.combine = settings.size, settings.taken(), settings.combine
        self.norm = settings.architecture.norm
        self.antialias, self.half_on_cuda, self.compiles = settings.antialias, settings.half, settings.compile
        network = _network(settings)
        self.network: Any = network.eval().requires_grad_(False)
        for name in ("mean", "std"):
            values = torch.tensor(network.pretrained_cfg[name])
            self.register_buffer(name, values[:, None, None], persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Features:
        """Encode images `(B, 3, H, W)` in [-1, 1]: grid `(B, width, h, h)` and class token `(B, width)`, float32.

        A network without a class token gives what it pools its features to in its place.
        """
        with self._precision(images.device):
            last, grids = timm_probe.read(self.network, self._prepared(images), self.layers, norm=self.norm)
            grid = torch.cat(grids, dim=1) if self.combine == "concat" else torch.stack(grids).sum(0)
            class_token = timm_probe.class_token(self.network, last)
        return Features(grid=grid.float(), class_token=class_token.float())

    def accelerate(self, backend: str = "inductor") -> None:
        """Compile the network on a CUDA device, where its many small operations cost more than a minute's pause."""
        if not self.compiles or (backend == "inductor" and not self.mean.is_cuda):
            return
        method = self.network.forward_intermediates
        self.network.forward_intermediates = _CompiledForLargest(method, backend)

    def _prepared(self, images: Tensor) -> Tensor:
        images = ((images + 1) / 2 - self.mean) / self.std
        if images.shape[-2:] == (self.side, self.side):
            return images
        side = (self.side, self.side)
        return F.interpolate(images, side, mode="bicubic", antialias=self.antialias, align_corners=False)

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        if device.type != "cuda" or not self.half_on_cuda:
            return nullcontext()
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.autocast("cuda", torch.bfloat16, enabled=native)


class _CompiledForLargest:
    """A method that is compiled for the largest batch so far: those of a training, or of a cache.

    Smaller ones, a picture's or the last of a data set, are computed as written: otherwise each size would be compiled
    for itself, or all of them, the training's too, would go by one graph for any size.
    """

    def __init__(self, method: Callable[..., Any], backend: str) -> None:
        self.method, self.compiled = method, torch.compile(method, backend=backend, dynamic=False)
        self.largest = 0

    def __call__(self, images: Tensor, *arguments: Any, **options: Any) -> Any:
        self.largest = max(self.largest, len(images))
        call = self.compiled if len(images) == self.largest else self.method
        return call(images, *arguments, **options)


def _network(settings: TimmSettings) -> Any:
    name = settings.architecture.model
    if settings.package is not None and settings.pretrained and settings.weights is None:
        return _packaged(name, settings.size, settings.package)
    path = _weights(settings)
    with seeded(0):
        if path is None:
            return timm_probe.create(name, settings.size, num_classes=0)
        return loaded(name, settings.size, path)


def _packaged(name: str, size: int, package: Package) -> Any:
    """Return a network with the weights of an installed package, without the classifier that they come with."""
    with torch.device("meta"):
        network = timm_probe.create(name, size)
    network.load_state_dict(packaged.tensors(package, network.state_dict()), strict=True, assign=True)
    network.reset_classifier(0)
    return network


def _weights(settings: TimmSettings) -> Path | None:
    """Return the file of weights, fetched if need be; None for random ones."""
    name = settings.architecture.model
    if settings.weights is not None:
        return _local(expanded(settings.weights), name)
    return _fetched(name) if settings.pretrained else None


def _local(path: Path, name: str) -> Path:
    if path.is_file():
        return path
    for file in (path / f"{name}.safetensors", path / HUB_FILE):
        if file.is_file():
            return file
    found = sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    raise ValueError(f"weights: there is no {HUB_FILE} and no {name}.safetensors in {path}")


def _fetched(name: str) -> Path:
    config = timm_probe.config(name)
    if not config.hf_hub_id:
        raise ValueError(
            f"timm knows no hub repository of {name} (published at {config.url}): convert its weights to safetensors "
            "and give their path, encoder.weights=FILE"
        )
    published = config.hf_hub_filename or HUB_FILE
    try:
        return fetch(config.hf_hub_id, published if published.endswith(".safetensors") else HUB_FILE)
    except ValueError as error:
        remedy = "connect to the hub, or copy the file here and give its path, encoder.weights=FILE"
        raise ValueError(f"{error}; {remedy}") from None
