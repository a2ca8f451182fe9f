"""Arguments that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="changes: part=NAME replaces a part, part.key=VALUE sets a value"),
]
PluginsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="plugins=[FILE]", help="Python files with parts of your own")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")]
RootOption = Annotated[Path, typer.Option("--root", help="folder of all runs")]
