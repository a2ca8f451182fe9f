"""The commands: where each lies, and its line in the overview."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS = {
    "run": (".run:run", "Train, draw, sample and score a recipe, or go on with a run."),
    "list": (".list:list_parts", "List the parts of a kind, or all parts and recipes."),
    "show": (".show:show", "Show a recipe with every value, or what a part does."),
    "check": (".check:check", "Find every mistake of a recipe, and say what it takes."),
    "cache": (".cache:cache", "Store what the frozen networks say of a recipe's images."),
    "features": (".features:features", "Draw what encoder and projection see in your own pictures."),
    "import": (".import_:import_", "Turn a published SiT, DiT or ReDi checkpoint into a run."),
    "sample": (".sample:sample", "Draw images from a run."),
    "evaluate": (".evaluate:evaluate", "Score a run, by its recipe's protocol or another."),
    "compare": (".compare:compare", "Run and score what is missing, and print tables."),
    "replay": (".replay:replay", "Compute a step again that was not finite, and say why."),
}


class Commands(TyperGroup):
    """Knows of its commands what the overview shows, and imports the one that is called: the others cost time."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the called command whole."""
        name, outline, rest = super().resolve_command(ctx, args)
        return name, outline and _whole(str(name)), rest


def add_outlines(app: typer.Typer) -> None:
    """Add commands without arguments, for the overview and for a name that was meant otherwise."""
    for name, (_, line) in COMMANDS.items():
        app.command(name, help=line)(_outline)


def _outline() -> None:
    """Stand for a command."""


def _whole(name: str) -> Any:
    module, function = COMMANDS[name][0].split(":")
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name)(getattr(import_module(module, __package__), function))
    return typer.main.get_command(alone)
