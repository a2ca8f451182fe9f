"""`latsem list`."""

from __future__ import annotations

from typing import Annotated

import typer

from .arguments import PluginsArgument


def list_parts(
    kind: Annotated[
        str | None, typer.Argument(help="a kind of part (encoder, projection, ...), 'recipes' or 'studies'")
    ] = None,
    pattern: Annotated[
        str | None, typer.Argument(help="only names that it fits, as in 'vit_*dinov2*': pretrained encoders by timm's")
    ] = None,
    plugins: PluginsArgument = None,
) -> None:
    """List the parts of a kind, or everything: parts by kind, recipes and studies."""
    from ..recipes.catalogue import catalogue  # noqa: PLC0415

    for title, rows in catalogue(kind, pattern, plugins or []):
        typer.secho(title, bold=True)
        width = max((len(name) for name, _ in rows), default=0)
        for name, summary in rows:
            typer.echo(f"  {name:<{width}}  {summary}")
