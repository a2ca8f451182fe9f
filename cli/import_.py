"""`latsem import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..backends.importing.published import Published
from .arguments import OverridesArgument, RootOption


def import_(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="a published .pt or .safetensors file")],
    published: Annotated[Published, typer.Option("--as", help="the kind of network that it holds")],
    overrides: OverridesArgument = None,
    *,
    pca: Annotated[Path | None, typer.Option("--pca", metavar="FILE", help="ReDi's principal components")] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="NAME", help="which of the file's weights [default: its moving average]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the run folder, instead of the file's")] = None,
    root: RootOption = Path("runs"),
) -> None:
    """Turn a published checkpoint of SiT, REPA, DiT or ReDi into a run folder to sample from; nothing in it is run."""
    from ..backends.command_line import command  # noqa: PLC0415
    from ..recipes.importing import import_checkpoint  # noqa: PLC0415

    imported = import_checkpoint(checkpoint, published, overrides or [], pca=pca, weights=weights, name=name, root=root)
    for line in imported.lines:
        typer.echo(line)
    typer.echo(f"next  {command('latsem', 'sample', imported.folder, '-n', 16, '--seed', 1)}")
