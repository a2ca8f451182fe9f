"""`latsem evaluate`."""

from __future__ import annotations

from .arguments import OverridesArgument, RunArgument
from .interruption import goes_on


def evaluate(run: RunArgument, overrides: OverridesArgument = None) -> None:
    """Score a run by its recipe's protocol or another (guidance.scale=2 evaluate.samples=10000 sampler.steps=50).

    What was scored before is read from its file. A change to the guidance means scores with guidance.
    """
    from ..recipes.recipe import starting  # noqa: PLC0415

    with goes_on():
        with starting():
            from ..recipes.evaluating import evaluate_run  # noqa: PLC0415

        evaluate_run(run, overrides or [])
