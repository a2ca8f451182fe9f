"""Procedural scenes: enough meaning to be worth encoding, little enough to learn on a laptop in minutes."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .settings import ShapeSize, ShapesSettings

Array = NDArray[np.float32]

OBJECTS = ("disc", "square", "triangle", "star", "ring")
HUES = ("red", "yellow", "green", "cyan", "blue", "magenta")
BLOCK = 500
"""Scenes drawn from one random generator: scene i is draw i % BLOCK of generator (seed, i // BLOCK)."""

DRAWS = 16

UPRIGHT = np.pi
"""Angle at which triangles and stars point up and squares stand on a side."""


@dataclass(frozen=True)
class Scenes:
    """What is in a set of scenes, one entry a scene.

    Attributes:
        object: index into `OBJECTS`.
        hue: index into `HUES`.
        centre: `(N, 2)`, position x, y in [-1, 1].
        radius: in the same units.
        angle: rotation in radians.
        colour: `(N, 3)` colour of the object in [0, 1].
        background: `(N, 2, 3)` the two colours of the gradient.
        slope: direction of the gradient in radians.
        light: `(N, 2)`, direction times strength of the shading.
    """

    object: NDArray[np.int64]
    hue: NDArray[np.int64]
    centre: Array
    radius: Array
    angle: Array
    colour: Array
    background: Array
    slope: Array
    light: Array


def draw_scenes(seed: int, block: int, rotation: float = 180.0) -> Scenes:
    """Draw the `BLOCK` scenes of one block, turned by at most `rotation` degrees from upright, either way."""
    u = np.random.default_rng([seed, block]).random((BLOCK, DRAWS), dtype=np.float64).astype(np.float32)
    radius = 0.5 + 0.3 * u[:, 2]
    hue = (u[:, 1] * len(HUES)).astype(np.int64)
    largest_turn = np.pi * rotation / 180
    angle, light_angle = UPRIGHT - largest_turn + 2 * largest_turn * u[:, 5], 2 * np.pi * u[:, 14]
    strength = 0.15 + 0.25 * u[:, 15]
    return Scenes(
        object=(u[:, 0] * len(OBJECTS)).astype(np.int64),
        hue=hue,
        centre=((2 * u[:, 3:5] - 1) * (0.95 - radius)[:, None]).astype(np.float32),
        radius=radius,
        angle=angle.astype(np.float32),
        colour=_colours((hue + 0.35 * (u[:, 6] - 0.5)) / len(HUES), 0.75 + 0.25 * u[:, 7], 0.8 + 0.2 * u[:, 8]),
        background=np.stack(
            [
                _colours(u[:, 9], np.full(BLOCK, 0.25), 0.35 + 0.5 * u[:, 10]),
                _colours(u[:, 11], np.full(BLOCK, 0.25), 0.35 + 0.5 * u[:, 12]),
            ],
            axis=1,
        ),
        slope=(2 * np.pi * u[:, 13]).astype(np.float32),
        light=(np.stack([np.cos(light_angle), np.sin(light_angle)], 1) * strength[:, None]).astype(np.float32),
    )


def _colours(hue: NDArray[np.floating], saturation: NDArray[np.floating], value: NDArray[np.floating]) -> Array:
    rows = [
        colorsys.hsv_to_rgb(float(h) % 1.0, float(s), float(v)) for h, s, v in zip(hue, saturation, value, strict=True)
    ]
    return np.asarray(rows, dtype=np.float32)


# Signed distances (negative inside) in the object's own frame, where its radius is 1. `q` is (2, N, H, W).


def _disc(q: Array) -> Array:
    return np.hypot(q[0], q[1]) - 0.92


def _square(q: Array) -> Array:
    return np.maximum(np.abs(q[0]), np.abs(q[1])) - 0.78


def _triangle(q: Array) -> Array:
    return np.maximum(np.abs(q[0]) * np.float32(np.sqrt(3) / 2) + q[1] * 0.5, -q[1]) - 0.52


def _star(q: Array) -> Array:
    sector = 2 * np.pi / 5
    radius, inner = np.hypot(q[0], q[1]), 0.42
    around = np.arctan2(q[0], q[1])
    folded = np.abs(around - sector * np.round(around / sector))
    tip, notch = np.array([0.0, 1.0]), inner * np.array([np.sin(sector / 2), np.cos(sector / 2)])
    normal = np.array([tip[1] - notch[1], notch[0] - tip[0]])
    normal /= np.hypot(*normal)
    distance = radius * (np.sin(folded) * normal[0] + np.cos(folded) * normal[1]) - tip @ normal
    return distance.astype(np.float32)


def _ring(q: Array) -> Array:
    return np.abs(np.hypot(q[0], q[1]) - 0.68) - 0.24


_DISTANCES: tuple[Callable[[Array], Array], ...] = (_disc, _square, _triangle, _star, _ring)


def _axis() -> Array:
    return ((np.arange(ShapeSize, dtype=np.float32) + 0.5) / ShapeSize * 2 - 1).astype(np.float32)


def _object_frame(scenes: Scenes) -> Array:
    """Return pixel positions `(2, N, H, W)` seen from the object's centre, in units of its radius."""
    position = np.stack(np.meshgrid(_axis(), _axis(), indexing="xy"))[:, None]
    offset: Array = (position - scenes.centre.T[:, :, None, None]) / scenes.radius[None, :, None, None]
    return offset


def coverage(scenes: Scenes) -> Array:
    """Return how much of each pixel the object covers, `(N, 32, 32)` in [0, 1].

    An edge is softened over one pixel by the object's signed distance: coverage = clip(1/2 - distance, 0, 1).
    """
    offset = _object_frame(scenes)
    cos, sin = np.cos(scenes.angle)[:, None, None], np.sin(scenes.angle)[:, None, None]
    own = np.stack([cos * offset[0] + sin * offset[1], cos * offset[1] - sin * offset[0]])
    distance = np.empty(own.shape[1:], np.float32)
    for index, signed_distance in enumerate(_DISTANCES):
        chosen = scenes.object == index
        distance[chosen] = signed_distance(own[:, chosen])
    return np.clip(0.5 - distance * scenes.radius[:, None, None] * np.float32(ShapeSize / 2), 0, 1)


def render(scenes: Scenes) -> NDArray[np.uint8]:
    """Render scenes to `(N, 3, 32, 32)` pixels: a shaded object in front of a two-colour gradient."""
    across, down = _axis()[None, None, :], _axis()[None, :, None]
    along = across * np.cos(scenes.slope)[:, None, None] + down * np.sin(scenes.slope)[:, None, None]
    mix = (along / np.float32(2 * np.sqrt(2)) + np.float32(0.5))[:, None]
    ground = scenes.background[:, 0, :, None, None] * (1 - mix) + scenes.background[:, 1, :, None, None] * mix
    offset = _object_frame(scenes)
    shade = 1 + scenes.light[:, 0, None, None] * offset[0] + scenes.light[:, 1, None, None] * offset[1]
    body = np.clip(scenes.colour[:, :, None, None] * shade[:, None], 0, 1)
    covered = coverage(scenes)[:, None]
    return np.rint((ground * (1 - covered) + body * covered) * 255).astype(np.uint8)


class Shapes:
    """The `shapes` source. Scene i of a seed is the same whatever the size of the set."""

    def __init__(self, settings: ShapesSettings) -> None:
        self.seed = settings.seed
        self.size = settings.size
        self.rotation = settings.rotation
        self.num_classes = settings.classes()
        self.class_names = OBJECTS if self.num_classes else ()
        self.image_size = settings.side
        self.variants = 1
        self._blocks: dict[int, tuple[Tensor, Scenes]] = {}

    def __len__(self) -> int:
        return self.size

    def block(self, number: int) -> tuple[Tensor, Scenes]:
        """Return images `(BLOCK, 3, 32, 32)` and scenes of one block; each is rendered once a process."""
        if number not in self._blocks:
            scenes = draw_scenes(self.seed, number, self.rotation)
            self._blocks[number] = (torch.from_numpy(render(scenes)), scenes)
        return self._blocks[number]

    def item(self, index: int, seed: int) -> tuple[Tensor, int]:
        """Return image `(3, 32, 32)` uint8 and its class; there is no augmentation, so the seed has no effect."""
        del seed
        if not 0 <= index < self.size:
            raise IndexError(index)
        images, scenes = self.block(index // BLOCK)
        return images[index % BLOCK], int(scenes.object[index % BLOCK]) if self.num_classes else 0

    def key(self, index: int) -> str:
        """Return seed and number of a scene."""
        return f"{self.seed}/{index}"

    def fingerprint(self) -> str:
        """Return a digest of the settings and of the first scenes as they are rendered."""
        pixels, _ = self.block(0)
        settings = f"{self.seed} {self.size} {self.rotation} {self.num_classes}"
        return hashlib.blake2b(settings.encode() + pixels.numpy().tobytes(), digest_size=16).hexdigest()

    def describe(self) -> str:
        """Return what the source holds, in a line."""
        classes = f"{self.num_classes} classes" if self.num_classes else "unlabelled"
        return f"{self.size:,} rendered scenes of 32x32, {classes}"
