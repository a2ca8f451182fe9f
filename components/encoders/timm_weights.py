"""Weights for networks of timm, from a file as it is published or as somebody has trained it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..messages import first_differing
from ..weight_files import read_safetensors
from ..weights import unwrapped
from . import timm_probe


def loaded(name: str, size: int, path: Path) -> Any:
    """Return a network without classifier and with the weights of a file: timm brings positions to its own grid.

    A classifier of any number of classes may be in the file, or none, and any wrapper's prefix before the names.

    Raises:
        ValueError: the file is damaged, or holds another network; one line.
    """
    try:
        tensors = read_safetensors(path)
        found, classes = _named_as_timm(name, size, tensors)
    except ValueError as error:
        raise ValueError(f"weights: {error}") from None
    # timm copies tensors that it is handed twice; a file it reads once.
    source = {"file": str(path)} if found.keys() == tensors.keys() else {"state_dict": found}
    # timm compares every name only where the number of classes is the file's; elsewhere what does not fit is left out.
    overlay = {**source, "custom_load": False, "num_classes": classes, "label_offset": 0}
    try:
        network = timm_probe.create(name, size, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"weights: {path} holds another network than {name} ({first_differing(error)})") from None
    network.pretrained_cfg.pop("state_dict", None)
    if classes:
        network.reset_classifier(0)
    return network


def _named_as_timm(name: str, size: int, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Return tensors by timm's names, and the classes of their classifier; one that is no single layer is left out."""
    with torch.device("meta"):
        body = timm_probe.create(name, size, num_classes=0).state_dict().keys()
    found = unwrapped(tensors, body)
    if 2 * len(body & found.keys()) < len(body):
        # The names are those of a paper's own code, which timm knows how to read.
        found = tensors
    named = timm_probe.config(name).classifier
    heads = tuple(f"{head}." for head in ([named] if isinstance(named, str) else named or ()))
    layers = [found[f"{head}weight"] for head in heads if f"{head}weight" in found]
    if layers and len(layers) == len(heads) and all(layer.ndim == 2 for layer in layers):
        return found, len(layers[0])
    return {key: tensor for key, tensor in found.items() if key in body or not key.startswith(heads)}, 0
