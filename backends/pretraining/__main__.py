"""Make a shipped network again: `python -m latsem.backends.pretraining shapes_vit --out shapes_vit.safetensors`."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import torch
import typer
from safetensors.torch import save_file
from torch import nn

from ...components.encoders.vit import small_vit
from ...components.extractors.scorer import small_cnn
from ...components.extractors.settings import ShapesScorerSettings
from .dino import train_dino
from .supervised import train_encoder, train_scorer
from .vae import small_vae, train_vae


class Network(StrEnum):
    """The shipped networks. Each draws scenes of a seed that no other network, and no recipe, uses."""

    SHAPES_VIT = "shapes_vit"
    SHAPES_DINO = "shapes_dino"
    SHAPES_SCORER = "shapes_scorer"
    SHAPES_VAE = "shapes_vae"


def make(network: Network, steps: int | None = None) -> nn.Module:
    """Train one shipped network from its seed."""
    return _MAKERS[network](steps)


def _make_vit(steps: int | None) -> nn.Module:
    torch.manual_seed(101)
    vit = small_vit()
    train_encoder(vit, seed=101, steps=steps or 2500, batch_size=50, log=typer.echo)
    return vit


def _make_dino(steps: int | None) -> nn.Module:
    torch.manual_seed(102)
    return train_dino(small_vit(), seed=102, steps=steps or 800, batch_size=50, log=typer.echo)


def _make_scorer(steps: int | None) -> nn.Module:
    torch.manual_seed(103)
    width = ShapesScorerSettings().width()
    cnn = small_cnn(width)
    train_scorer(cnn, width, seed=103, steps=steps or 3000, batch_size=100, log=typer.echo)
    return cnn


def _make_vae(steps: int | None) -> nn.Module:
    torch.manual_seed(104)
    vae = small_vae()
    train_vae(vae, seed=104, steps=steps or 5000, batch_size=10, log=typer.echo)
    return vae


_MAKERS: dict[Network, Callable[[int | None], nn.Module]] = {
    Network.SHAPES_VIT: _make_vit,
    Network.SHAPES_DINO: _make_dino,
    Network.SHAPES_SCORER: _make_scorer,
    Network.SHAPES_VAE: _make_vae,
}


def _write(network: nn.Module, out: Path) -> list[Path]:
    """Write weights in half precision, in diffusers' folder format where the network has one; return the files."""
    if hasattr(network, "save_pretrained"):
        cast(Any, network.half()).save_pretrained(out)
        return list(out.iterdir())
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.detach().half().contiguous() for key, value in network.state_dict().items()}, out)
    return [out]


def main(
    network: Network,
    out: Annotated[Path, typer.Option(help="file to write; a folder for shapes_vae")],
    steps: Annotated[int | None, typer.Option(min=1, help="fewer steps, for a trial")] = None,
) -> None:
    """Train a shipped network from its seed and write its weights in half precision."""
    start = time.monotonic()
    size = sum(file.stat().st_size for file in _write(make(network, steps), out))
    typer.echo(f"{out}: {size / 1e6:.2f} MB in {(time.monotonic() - start) / 60:.1f} min")


if __name__ == "__main__":
    typer.run(main)
