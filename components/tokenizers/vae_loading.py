"""Autoencoders of diffusers: built from their configuration, and given weights that are compared name by name."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..messages import first_line
from ..seeded import seeded
from ..torchvision_import import ensure_torchvision
from ..weight_files import read_safetensors
from ..weights import fill, unwrapped
from .autoencoders import ASSUMED, normalization_of
from .settings import CONFIG, WEIGHTS, VAESettings, fetch_file

HARMLESS = ("loss.", "model_ema.")
"""The discriminator and the moving average beside an autoencoder that was saved while it trained."""

ORIGINAL = "encoder.down.0.block.0.norm1.weight"


def load_autoencoder(settings: VAESettings) -> nn.Module:
    """Return the autoencoder of a configuration in float32, with its weights or random ones.

    Raises:
        ValueError: its weights are not there, are damaged, or are those of another network.
    """
    ensure_torchvision()
    import diffusers  # noqa: PLC0415

    name = settings.config.get("_class_name", ASSUMED)
    if not hasattr(diffusers, name):
        raise ValueError(f"tokenizer.model: diffusers {diffusers.__version__} has no {name}: install a newer one")
    network = _untrained(getattr(diffusers, name), settings.config)
    if settings.pretrained:
        try:
            _fill(network, _weights(settings))
        except ValueError as error:
            raise ValueError(f"tokenizer.model: {error}") from None
    return network


def _untrained(network: Any, config: Mapping[str, Any]) -> nn.Module:
    """Return a network of a class with random weights, always the same."""
    # Saved configurations hold more than their class takes.
    known = {key: value for key, value in config.items() if key in signature(network).parameters}
    try:
        with seeded(0):
            built: nn.Module = network.from_config(known)
    except Exception as error:  # A configuration can be wrong in any way.
        raise ValueError(f"tokenizer.model: its {CONFIG} makes no {network.__name__} ({first_line(error)})") from None
    return built


def published_normalization(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Return shift and scale `(C,)` of the stream's channels: the configuration's, or those of a stored batch norm.

    FLUX.2's pipelines normalise packed latents by the running statistics of a batch norm that the autoencoder holds.
    """
    vae = cast(Any, network)
    if hasattr(vae, "bn"):
        return vae.bn.running_mean, (vae.bn.running_var + vae.config.batch_norm_eps).rsqrt()
    numbers = normalization_of({**vae.config, "_class_name": type(vae).__name__})
    return torch.tensor(numbers.shift), torch.tensor(numbers.scale)


def _weights(settings: VAESettings) -> Path:
    """Return the file of weights; only safetensors, for a pickled file could run code.

    Raises:
        ValueError: there is none, or several that could be meant.
    """
    folder = settings.folder
    if folder is None:
        return fetch_file(settings.model, WEIGHTS)
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    there = f"several others ({', '.join(path.name for path in found[:3])})" if found else "no other safetensors file"
    raise ValueError(f"in {folder} there is no {WEIGHTS} and {there}")


def _fill(network: nn.Module, path: Path) -> None:
    tensors = unwrapped(read_safetensors(path), network.state_dict().keys())
    # Files of 2022 have other names in their attention; the library renames them.
    cast(Any, network)._fix_state_dict_keys_on_load(tensors)
    try:
        fill(network, tensors, harmless=HARMLESS)
    except ValueError as error:
        layout = (
            " (it is in latent-diffusion's layout: convert it with from_single_file)" if ORIGINAL in tensors else ""
        )
        raise ValueError(f"{path} does not fit {type(network).__name__}: it {error}{layout}") from None
