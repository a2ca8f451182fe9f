"""`latsem evaluate`."""

from __future__ import annotations

from .arguments import OverridesArgument, RunArgument


def evaluate(run: RunArgument, overrides: OverridesArgument = None) -> None:
    """Score a run again, with its guidance and sampler or others (evaluate.guided=true guidance=representation)."""
    from ..recipes.assemble import evaluate_run  # noqa: PLC0415

    evaluate_run(run, overrides or [])
