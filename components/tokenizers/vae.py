"""Diffusion on the latents of a variational autoencoder (arXiv 2112.10752), as in DiT, SiT and ReDi."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..frozen import Frozen
from ..hub import unfetched
from ..merging import ALONE, Merge
from ..moments import Moments
from ..seeded import seeded
from ..torchvision_import import ensure_torchvision
from .settings import REMEDY, WEIGHTS, VAESettings
from .tokenizer import Normal


class LatentNormalization(nn.Module):
    """`stream = (latent - shift) * scale`, a number a channel."""

    shift: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(self, shift: float, scale: float, channels: int, *, fitted: bool) -> None:
        super().__init__()
        self.register_buffer("shift", torch.full((channels, 1, 1), shift))
        self.register_buffer("scale", torch.full((channels, 1, 1), scale))
        self.register_buffer("fitted", torch.tensor(fitted))

    def forward(self, latent: Tensor) -> Tensor:
        """Bring latents `(B, C, h, w)` to the scale of the stream."""
        return (latent - self.shift) * self.scale

    def inverse(self, stream: Tensor) -> Tensor:
        """Return latents."""
        return stream / self.scale + self.shift


class VAETokenizer(Frozen):
    """The `vae` tokenizer: codes are the posterior's means and log-variances, `(B, 2 C, h, w)`.

    Raises:
        ValueError: the model cannot be loaded.
    """

    def __init__(self, settings: VAESettings) -> None:
        super().__init__()
        self.sample, self.tiled = settings.sample, settings.tiled
        self.vae = _load(settings).eval().requires_grad_(False)
        config = cast(Any, self.vae).config
        own = settings.normalization == "config"
        self.normalization = LatentNormalization(
            shift=(config.shift_factor or 0.0) if own else 0.0,
            scale=config.scaling_factor if own else 1.0,
            channels=settings.channels(),
            fitted=own,
        )

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return means and log-variances `(B, 2 C, h, w)` of images `(B, 3, H, W)` in [-1, 1]."""
        moments: Tensor = cast(Any, self.vae).encode(images).latent_dist.parameters
        return moments.float()

    def store(self, code: Tensor) -> Tensor:
        """Return moments in half precision."""
        return code.half()

    def restore(self, stored: Tensor) -> Tensor:
        """Return moments."""
        return stored.float()

    @torch.no_grad()
    def draw(self, code: Tensor, normal: Normal) -> Tensor:
        """Return the stream `(B, C, h, w)`: a draw of the posterior, or its mean if the settings say so."""
        mean, log_variance = code.chunk(2, dim=1)
        if self.sample:
            mean = mean + (log_variance.clamp(-30, 20) / 2).exp() * normal(mean.shape)
        return cast(Tensor, self.normalization(mean))

    @torch.no_grad()
    def decode(self, stream: Tensor) -> Tensor:
        """Return images `(B, 3, H, W)` of a stream."""
        vae = cast(Any, self.vae)
        # Only here: tiles would change what is encoded, and so what is trained on.
        vae.use_tiling = self.tiled
        try:
            images: Tensor = vae.decode(self.normalization.inverse(stream)).sample
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
            mean, log_variance = code.double().cpu().chunk(2, dim=1)
            own.update(mean.movedim(1, -1).flatten(0, -2))
            own_variance += log_variance.clamp(-30, 20).exp().mean((2, 3)).sum(0)
            images += len(code)
        moments, mean_variance = own.merged(merge), merge.sum(own_variance).cpu() / merge.sum(images).cpu()
        variance = moments.covariance.diagonal() + (mean_variance if self.sample else 0)
        self.normalization.shift.copy_(moments.mean[:, None, None])
        self.normalization.scale.copy_(variance.rsqrt()[:, None, None])
        self.normalization.fitted.fill_(True)


def _load(settings: VAESettings) -> nn.Module:
    ensure_torchvision()
    from diffusers import AutoencoderKL  # noqa: PLC0415

    if not settings.pretrained:
        with seeded(0):
            random: nn.Module = AutoencoderKL.from_config(dict(settings.config))
        return random
    try:
        # Only safetensors: a pickled weight file could run code.
        vae: nn.Module = AutoencoderKL.from_pretrained(
            settings.folder or settings.model,
            torch_dtype=torch.float32,
            use_safetensors=True,
            low_cpu_mem_usage=False,
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"tokenizer.model: {unfetched(settings.model, WEIGHTS, error)}; {REMEDY}") from None
    return vae
