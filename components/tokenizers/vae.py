"""Diffusion on the latents of a variational autoencoder (arXiv 2112.10752), as in DiT, SiT and ReDi."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..frozen import Frozen
from ..merging import ALONE, Merge
from ..moments import Moments
from .autoencoders import class_of
from .settings import VAESettings
from .tokenizer import Normal
from .vae_loading import load_autoencoder, published_normalization


class LatentNormalization(nn.Module):
    """`stream = (latent - shift) * scale`, a number a channel `(C,)`."""

    shift: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(self, shift: Tensor, scale: Tensor, *, fitted: bool) -> None:
        super().__init__()
        self.register_buffer("shift", shift.float()[:, None, None])
        self.register_buffer("scale", scale.float()[:, None, None])
        self.register_buffer("fitted", torch.tensor(fitted))

    def forward(self, latent: Tensor) -> Tensor:
        """Bring latents `(B, C, h, w)` to the scale of the stream."""
        return (latent - self.shift) * self.scale

    def inverse(self, stream: Tensor) -> Tensor:
        """Return latents."""
        return stream / self.scale + self.shift


class VAETokenizer(Frozen):
    """The `vae` tokenizer: codes are the posterior's means and log-variances `(B, 2 C, h, w)`, or the latents.

    Latents whose pipelines put squares of them into channels are packed when they become the stream, not in codes.

    Raises:
        ValueError: the model cannot be loaded.
    """

    def __init__(self, settings: VAESettings) -> None:
        super().__init__()
        self.kind = class_of(settings.config)
        self.sample, self.tiled = settings.sample and self.kind.gaussian, settings.tiled
        self.vae = load_autoencoder(settings).eval().requires_grad_(False)
        own, channels = settings.normalization == "config", settings.channels()
        shift, scale = published_normalization(self.vae) if own else (torch.zeros(channels), torch.ones(channels))
        self.normalization = LatentNormalization(shift, scale, fitted=own)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return codes `(B, 2 C, h, w)` or `(B, C, h, w)` of images `(B, 3, H, W)` in [-1, 1]."""
        found = cast(Any, self.vae).encode(images)
        # Some classes name what they return in the plural, some do not; it is all that they return.
        code: Tensor = found.latent_dist.parameters if self.kind.gaussian else found[0]
        return code.float()

    def store(self, code: Tensor) -> Tensor:
        """Return codes in half precision."""
        return code.half()

    def restore(self, stored: Tensor) -> Tensor:
        """Return codes."""
        return stored.float()

    @torch.no_grad()
    def draw(self, code: Tensor, normal: Normal) -> Tensor:
        """Return the stream `(B, C, h, w)`: a draw of the posterior, or its mean if the settings say so."""
        latent, log_variance = self._split(code)
        if self.sample and log_variance is not None:
            latent = latent + (log_variance / 2).exp() * normal(latent.shape)
        return cast(Tensor, self.normalization(F.pixel_unshuffle(latent, self.kind.packing)))

    @torch.no_grad()
    def decode(self, stream: Tensor) -> Tensor:
        """Return images `(B, 3, H, W)` of a stream."""
        vae, latent = cast(Any, self.vae), F.pixel_shuffle(self.normalization.inverse(stream), self.kind.packing)
        # Only here: tiles would change what is encoded, and so what is trained on.
        vae.use_tiling = self.tiled
        try:
            images: Tensor = vae.decode(latent, **self.kind.options).sample
        finally:
            vae.use_tiling = False
        return images.float()

    def fit(self, codes: Iterable[Tensor], merge: Merge = ALONE) -> None:
        """Measure mean and spread of every channel over codes, the posterior's own spread included."""
        if bool(self.normalization.fitted):
            return
        channels = len(self.normalization.shift)
        own, own_variance, images = Moments(channels), torch.zeros(channels, dtype=torch.float64), torch.tensor(0)
        for code in codes:
            latent, log_variance = self._split(code.double().cpu())
            own.update(F.pixel_unshuffle(latent, self.kind.packing).movedim(1, -1).flatten(0, -2))
            if self.sample and log_variance is not None:
                spread = F.pixel_unshuffle(log_variance.exp(), self.kind.packing)
                own_variance += spread.mean((2, 3)).sum(0)
            images += len(code)
        moments, mean_variance = own.merged(merge), merge.sum(own_variance).cpu() / merge.sum(images).cpu()
        variance = moments.covariance.diagonal() + mean_variance
        self.normalization.shift.copy_(moments.mean[:, None, None])
        self.normalization.scale.copy_(variance.rsqrt()[:, None, None])
        self.normalization.fitted.fill_(True)

    def _split(self, code: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return latents, and what a posterior has of log-variance, within the bounds of diffusers."""
        if not self.kind.gaussian:
            return code, None
        mean, log_variance = code.chunk(2, dim=1)
        return mean, log_variance.clamp(-30, 20)
