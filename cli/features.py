"""`latsem features`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def features(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE|RUN", help="a recipe, or a run folder: as it was trained")],
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE... [KEY=VALUE]...", help="picture files or folders, and changes to the recipe"),
    ],
    data: Annotated[
        bool, typer.Option("--data", help="fit the projection on the recipe's data, not on the pictures themselves")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="file to write, instead of one named by the parts")] = None,
) -> None:
    """Draw what the encoder and the projection see in your own pictures, as colours under each."""
    from ..recipes.features import draw_features  # noqa: PLC0415

    changes = [word for word in images if "=" in word and not Path(word).exists()]
    pictures = [Path(word) for word in images if word not in changes]
    drawn = draw_features(recipe, pictures, changes, fitted_on="data" if data else "pictures", out=out)
    typer.echo(f"statistics of {drawn.statistics}")
    typer.echo(str(drawn.path))
