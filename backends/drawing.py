"""The pictures that a run draws of itself while it trains."""

from __future__ import annotations

import torch

from ..components.images import to_unit
from ..components.streams import SEMANTIC
from .assembly import Assembly
from .generation import ImageGenerator
from .loader import fixed_batches
from .model import JointModel
from .pictures import evolution_picture, grid_picture, save_picture, semantic_picture
from .randomness import derived_generator, normal_of
from .run_folder import RunFolder

SEMANTIC_IMAGES = 10


class RunDrawing:
    """Draws into one run folder: samples, and the semantic stream of the same images at every picture step."""

    def __init__(self, assembly: Assembly, folder: RunFolder, device: torch.device) -> None:
        self.assembly = assembly
        self.folder = folder
        self.device = device

    def draw(self, generator: ImageGenerator, model: JointModel, step: int) -> None:
        """Write the pictures of one step."""
        name = f"step-{step:08d}.png"
        count = self.assembly.train.picture_images
        if count:
            save_picture(grid_picture(generator.images(range(count), 0)), self.folder.samples / name)
        if SEMANTIC not in self.assembly.streams:
            return
        count = min(SEMANTIC_IMAGES, len(self.assembly.source))
        images, _ = next(fixed_batches(self.assembly.source, range(count), count))
        space = self.assembly.space
        normal = normal_of(derived_generator(self.device, "picture"))
        observation = space.observe(space.encode(images.to(self.device)), normal)
        with torch.no_grad():
            stream = model.clean_streams(observation)[SEMANTIC]
        picture = semantic_picture(to_unit(images), stream, observation.features)
        save_picture(picture, self.folder.semantics / name)

    def draw_evolution(self) -> None:
        """Stack the semantic pictures of all steps into one, if there are any."""
        picture = evolution_picture(self.folder.semantics)
        if picture:
            save_picture(picture, self.folder.semantics / "evolution.png")
