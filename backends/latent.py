"""The latent space."""

from __future__ import annotations

import torch
from torch import Tensor

from ..components.images import to_unit
from ..components.streams import IMAGE
from .randomness import derived_generator
from .space import Space

PEAK = 2.0


class LatentSpace(Space):
    """Images are encoded by an autoencoder: no image can come out better than its reconstruction."""

    @torch.no_grad()
    def quality(self, images: Tensor) -> dict[str, float]:
        """Return the peak signal-to-noise ratio of reconstructions, dB, mean over images `(B, 3, H, W)` uint8."""
        unit = to_unit(images)
        stream = self.tokenizer.draw(self.tokenizer.encode(unit), derived_generator(images.device, "reconstruction"))
        error = (self.decode({IMAGE: stream}) - unit).square().flatten(1).mean(1)
        return {"psnr": float((10 * torch.log10(PEAK**2 / error.clamp_min(1e-10))).mean())}
