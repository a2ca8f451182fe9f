"""Scenes as training data for the shipped networks: an endless stream, and what there is to predict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...components.data.shapes import BLOCK, HUES, OBJECTS, Scenes, coverage, draw_scenes, render
from ...components.images import to_unit

SYMMETRY = np.array([0, 4, 3, 5, 0], np.float32)
"""Fold of each object's rotational symmetry; 0 where rotation cannot be seen."""

CONTINUOUS = 11
"""Position 2, radius 1, two background colours 6, rotation as a point on the circle 2."""


@dataclass(frozen=True)
class Batch:
    """Images in [-1, 1] and what is in them: object and hue as class indices, the rest as numbers.

    `coverage` `(B, 32, 32)` tells which share of each pixel the object covers.
    """

    images: Tensor
    object: Tensor
    hue: Tensor
    continuous: Tensor
    coverage: Tensor


def batches(seed: int, size: int) -> Iterator[Batch]:
    """Yield batches of new scenes for ever; `size` divides `BLOCK`."""
    block = 0
    while True:
        scenes = draw_scenes(seed, block)
        whole = Batch(
            images=to_unit(torch.from_numpy(render(scenes))),
            object=torch.from_numpy(scenes.object),
            hue=torch.from_numpy(scenes.hue),
            continuous=torch.from_numpy(_continuous(scenes)),
            coverage=torch.from_numpy(coverage(scenes)),
        )
        for start in range(0, BLOCK - size + 1, size):
            yield Batch(**{name: value[start : start + size] for name, value in vars(whole).items()})
        block += 1


def _continuous(scenes: Scenes) -> np.ndarray:
    fold = SYMMETRY[scenes.object]
    turn = np.stack([np.cos(fold * scenes.angle), np.sin(fold * scenes.angle)], 1) * (fold > 0)[:, None]
    background = 2 * scenes.background.reshape(len(fold), -1) - 1
    slope_sign = np.sign(np.cos(scenes.slope))[:, None]
    left_to_right = np.where(slope_sign < 0, np.roll(background, 3, axis=1), background)
    return np.concatenate([scenes.centre, scenes.radius[:, None], left_to_right, turn], 1).astype(np.float32)


class AttributeHead(nn.Module):
    """Linear predictions of everything in a scene, from one vector an image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = (len(OBJECTS), len(HUES), CONTINUOUS)
        self.linear = nn.Linear(width, sum(self.sizes))

    def forward(self, features: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and, for the log, accuracies and the error of the continuous attributes."""
        objects, hues, continuous = self.linear(features).split(self.sizes, dim=1)
        error = F.mse_loss(continuous, batch.continuous)
        loss = F.cross_entropy(objects, batch.object) + F.cross_entropy(hues, batch.hue) + 4 * error
        return loss, {
            "object": float((objects.argmax(1) == batch.object).float().mean()),
            "hue": float((hues.argmax(1) == batch.hue).float().mean()),
            "error": float(error.detach()),
        }


class PlaceHead(nn.Module):
    """Linear prediction of what covers each patch: one of the objects in one of the hues, or the background."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1 + len(OBJECTS) * len(HUES))

    def forward(self, patches: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy of patch tokens `(B, N, width)` with what covers them, in proportion."""
        side = int(patches.shape[1] ** 0.5)
        covered = F.adaptive_avg_pool2d(batch.coverage[:, None], side).flatten(1)
        background, objects = self.linear(patches).log_softmax(-1).split((1, len(OBJECTS) * len(HUES)), dim=-1)
        kind = (batch.object * len(HUES) + batch.hue)[:, None, None].expand(-1, patches.shape[1], 1)
        likelihood = covered * objects.gather(2, kind)[..., 0] + (1 - covered) * background[..., 0]
        return -likelihood.mean()


class OutlineHead(nn.Module):
    """Linear prediction, from one patch token, of how much of each of its pixels the object covers."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.linear = nn.Linear(width, patch**2)

    def forward(self, patches: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy of patch tokens `(B, N, width)` with the coverage of their pixels."""
        covered = F.pixel_unshuffle(batch.coverage[:, None], self.patch).flatten(2).transpose(1, 2)
        return F.binary_cross_entropy_with_logits(self.linear(patches), covered)
