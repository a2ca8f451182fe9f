"""The commands: where each lies, and its line in the overview."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import typer

COMMANDS = {
    "run": (".run:run", "Train, draw, sample and score a recipe, or go on with a run."),
    "list": (".list:list_parts", "List the parts of a kind, or all parts, recipes and studies."),
    "show": (".show:show", "Show a recipe with every value, or what a part or section does."),
    "check": (".check:check", "Find every mistake of a recipe, and say what it takes."),
    "cache": (".cache:cache", "Store what the frozen networks say of a recipe's images."),
    "features": (".features:features", "Draw what encoder and projection see in your own pictures."),
    "import": (".import_:import_", "Turn a published SiT, DiT or ReDi checkpoint into a run."),
    "sample": (".sample:sample", "Draw images from a run."),
    "evaluate": (".evaluate:evaluate", "Score a run, by its recipe's protocol or another."),
    "compare": (".compare:compare", "Run and score what is missing, and print tables."),
    "bench": (".bench:bench", "Time a recipe on this machine, and what it reaches of it."),
    "replay": (".replay:replay", "Compute a step again that was not finite, and say where."),
}

EXAMPLES = """
Examples:

\b
  latsem run pixel_coredi encoder=shapes_dino
  latsem run pixel_coredi data=folder data.root=photos train.steps=2000
  latsem check imagenet256/latent_redi_xl fabric.devices=8
  latsem sample runs/pixel_coredi/NAME -n 64 guidance.scale=3
  latsem compare pixel_jit pixel_coredi --seeds 3

'latsem COMMAND --help' says what a command takes.
"""


def call(arguments: Sequence[str]) -> None:
    """Carry out the command that is named first; without one, show the overview."""
    # Typer would import and take apart all commands for each of them, and check values before it shows any help.
    name = arguments[0] if arguments else None
    if name in COMMANDS:
        app = _app()
        module, function = COMMANDS[name][0].split(":")
        app.command(name)(getattr(import_module(module, __package__), function))
        app(arguments[1:], prog_name=f"latsem {name}")
    else:
        _overview()(arguments, prog_name="latsem")


def _app() -> typer.Typer:
    # Boxes and colours would take as long again as all the rest of the help.
    return typer.Typer(
        no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )


def _overview() -> typer.Typer:
    """Return commands that have no arguments yet, to be listed and to find what was meant by another name."""
    app = _app()
    app.callback(epilog=EXAMPLES)(_latsem)
    for name, (_, line) in COMMANDS.items():
        app.command(name, help=line)(_latsem)
    return app


def _latsem() -> None:
    """Joint image-feature diffusion: denoise images together with what they mean."""
