"""What each way to the features costs: bytes on disk, or arithmetic in every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ...components.data.source import Source
from ..metering import count_flops
from ..model import JointModel
from ..shown import size
from ..space import Space
from .forms import FeatureForm

FORWARDS_A_STEP = 3
"""A training step computes about three forward passes: one forward and, at twice its price, one backward."""


@dataclass(frozen=True)
class Cost:
    """Bytes of a cache, and how many of them are features."""

    bytes: int
    features: int


def costs(source: Source, space: Space, forms: Mapping[str, FeatureForm | None]) -> dict[str, Cost]:
    """Return what a cache takes in each form, from the sizes of one encoded image."""
    encoded = space.encode(source.item(0, 0)[0][None].to(space.device))
    code = space.tokenizer.store(encoded.code)
    entries = len(source) * source.variants
    rest = entries * code.numel() * code.element_size() + 16 * len(source)
    positions = 0 if encoded.features is None else encoded.features.shape[-1] * encoded.features.shape[-2]
    features = {
        name: entries * positions * form.channels * form.width + 8 * len(source) if form is not None else 0
        for name, form in forms.items()
    }
    return {name: Cost(rest + count, count) for name, count in features.items()}


def encoding_flops(source: Source, space: Space) -> int:
    """Return the operations of encoding one image."""
    image = source.item(0, 0)[0][None].to(space.device)
    return count_flops(lambda: space.encode(image))


def denoising_flops(model: JointModel, device: torch.device) -> int:
    """Return the operations of the denoiser's forward pass on one image."""
    noise = {name: torch.zeros(1, *spec.shape, device=device) for name, spec in model.streams.items()}
    times = dict.fromkeys(noise, torch.zeros(1, device=device))
    labels = torch.zeros(1, dtype=torch.long, device=device)
    return count_flops(lambda: model.denoiser(noise, times, labels))


def online_share(source: Source, space: Space, model: JointModel) -> float:
    """Return the arithmetic of encoding an image, relative to a training step on it."""
    return encoding_flops(source, space) / (FORWARDS_A_STEP * denoising_flops(model, space.device))


def table(every: Mapping[str, Cost], chosen: str, share: float) -> list[str]:
    """Return the ways to the features as lines."""
    lines = [
        f"{'*' if name == chosen else ' '} {name:<10} {size(each.bytes):>9} on disk, features {size(each.features)}"
        for name, each in every.items()
    ]
    return [*lines, f"  {'on line':<10} {size(0):>9} on disk, and {100 * share:.1f} % more arithmetic in every step"]
