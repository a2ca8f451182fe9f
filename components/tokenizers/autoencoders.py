"""The autoencoders of diffusers that are read, and what a configuration says of latents. No torch is imported here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..settings import near_name

ASSUMED = "AutoencoderKL"
"""The class of a configuration that names none."""


@dataclass(frozen=True)
class AutoencoderClass:
    """How a class of diffusers is configured and called.

    Attributes:
        encoder_levels: the key that lists the levels of its encoder; each but the first halves the image.
        decoder_levels: the keys that may list those of its decoder, the first that is set.
        gaussian: whether it encodes to mean and log-variance; else to the latents themselves.
        packing: side of the squares of latents that its pipelines put into channels.
        tiles: whether it decodes in tiles.
        options: arguments of `decode` besides the latents.
    """

    encoder_levels: str = "block_out_channels"
    decoder_levels: tuple[str, ...] = ("block_out_channels",)
    gaussian: bool = True
    packing: int = 1
    tiles: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


_TWO_SIDED = {"encoder_levels": "encoder_block_out_channels", "decoder_levels": ("decoder_block_out_channels",)}

CLASSES: Mapping[str, AutoencoderClass] = {
    "AutoencoderKL": AutoencoderClass(tiles=True),
    "AsymmetricAutoencoderKL": AutoencoderClass(
        encoder_levels="down_block_out_channels", decoder_levels=("up_block_out_channels",)
    ),
    "AutoencoderKLFlux2": AutoencoderClass(
        decoder_levels=("decoder_block_out_channels", "block_out_channels"), packing=2, tiles=True
    ),
    # Its decoder is one of videos; an image is a video of one frame.
    "AutoencoderKLTemporalDecoder": AutoencoderClass(options={"num_frames": 1}),
    "AutoencoderTiny": AutoencoderClass(**_TWO_SIDED, gaussian=False),  # type: ignore[arg-type]
    "AutoencoderDC": AutoencoderClass(**_TWO_SIDED, gaussian=False, tiles=True),  # type: ignore[arg-type]
    # Latents are those before the codebook, which belongs to the decoder, as in arXiv 2112.10752.
    "VQModel": AutoencoderClass(gaussian=False),
}


@dataclass(frozen=True)
class LatentShape:
    """Channels of the latents of an autoencoder, and pixels a latent along one side."""

    channels: int
    factor: int


@dataclass(frozen=True)
class Normalization:
    """`stream = (latent - shift) * scale`, a number a channel."""

    shift: Sequence[float]
    scale: Sequence[float]


def class_of(config: Mapping[str, Any]) -> AutoencoderClass:
    """Return how the class of a configuration is called.

    Raises:
        ValueError: it is none of those that are read.
    """
    name = str(config.get("_class_name", ASSUMED))
    if name not in CLASSES:
        raise ValueError(f"is of the class {name!r}{near_name(name, CLASSES)} (read are {', '.join(CLASSES)})")
    return CLASSES[name]


def shape_of(config: Mapping[str, Any]) -> LatentShape:
    """Return the shape of latents as the stream has them, after looking at what the rest of the configuration says.

    Raises:
        ValueError: it describes no autoencoder of images, or one that is not read; one clause.
    """
    kind = class_of(config)
    levels = _levels(config, (kind.encoder_levels,))
    growth = 2 ** (levels - 1)
    if _levels(config, kind.decoder_levels) != levels or config.get("upsampling_scaling_factor", 2) != 2:
        raise ValueError("decodes to another size than it encodes")
    if config.get("in_channels", 3) != 3 or config.get("out_channels", 3) != 3:
        raise ValueError(
            f"takes {config.get('in_channels', 3)} channels and gives {config.get('out_channels', 3)}; images have 3"
        )
    if list(config.get("patch_size", [kind.packing] * 2)) != [kind.packing] * 2:
        raise ValueError(f"has a patch_size of {config['patch_size']}; read is {kind.packing}x{kind.packing}")
    channels = _latent_channels(config)
    _ = normalization_of(config)
    return LatentShape(channels * kind.packing**2, growth * kind.packing)


def normalization_of(config: Mapping[str, Any]) -> Normalization:
    """Return what diffusers' pipelines do to latents before the network sees them.

    Either `(latent - shift_factor) * scaling_factor` (as for Stable Diffusion 3 and FLUX.1), or, where the channels
    have numbers of their own, `(latent - latents_mean) * scaling_factor / latents_std` (as in SDXL's pipelines, which
    do not read `shift_factor` then).

    Raises:
        ValueError: a number is missing or makes no sense; one clause.
    """
    channels = _latent_channels(config)
    factor = _number(config, "scaling_factor", 1.0)
    shift = _number(config, "shift_factor", 0.0)
    mean, std = (_numbers(config, key, channels) for key in ("latents_mean", "latents_std"))
    if factor <= 0:
        raise ValueError(f"has a scaling_factor of {factor}")
    if mean is None and std is None:
        return Normalization([shift] * channels, [factor] * channels)
    if mean is None or std is None:
        raise ValueError("has latents_mean or latents_std without the other")
    if min(std) <= 0:
        raise ValueError("has a latents_std that is not positive")
    return Normalization(mean, [factor / each for each in std])


def _levels(config: Mapping[str, Any], keys: Sequence[str]) -> int:
    found: Any = next((config[key] for key in keys if config.get(key) is not None), None)
    if not isinstance(found, list | tuple) or not found:
        raise ValueError(f"has no {keys[-1]}")
    return len(found)


def _latent_channels(config: Mapping[str, Any]) -> int:
    quantized = config.get("vq_embed_dim") if config.get("_class_name") == "VQModel" else None
    channels = quantized if quantized is not None else config.get("latent_channels")
    if type(channels) is not int or channels < 1:
        raise ValueError("has no latent_channels")
    return channels


def _number(config: Mapping[str, Any], key: str, default: float) -> float:
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"has a {key} that is no number ({value!r})")
    return float(value)


def _numbers(config: Mapping[str, Any], key: str, count: int) -> list[float] | None:
    values = config.get(key)
    if values is None:
        return None
    if not isinstance(values, list | tuple) or len(values) != count:
        held = len(values) if isinstance(values, list | tuple) else "no"
        raise ValueError(f"has {held} numbers in {key} for {count} channels")
    return [_number({key: value}, key, math.nan) for value in values]
