"""A run that scores are made of, and what they are made with."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import QUICK_JOINT

from latsem.recipes import load

ALL = "evaluate.metrics=[frechet, {name: kernel, subset_size: 20}, precision_recall, density_coverage]"


SCORED = ["evaluate.samples=66", ALL]


def record_of(path: Path) -> dict[str, object]:
    record: dict[str, object] = json.loads(path.read_text())
    return record


def unscored_run(root: Path) -> Path:
    """Return a run of a few steps, not scored."""
    return load("latent_redi", [*QUICK_JOINT, "evaluate.samples=0"]).run(root=root, quiet=True).folder
