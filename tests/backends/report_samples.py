"""Folders to report on: a comparison with everything that one can hold, and a run folder written by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from latsem.backends.reporting.comparison_data import (
    ComparedRow,
    Comparison,
    ComparisonTable,
    Curve,
    Grid,
    Spread,
    Sweep,
    SweepRow,
    write_comparison,
)

METRICS = {"frechet": "lower", "precision": "higher", "semantic/frechet": "lower"}
ENDS = {"pixel_jit": 72.0, "pixel_redi": 47.0, "pixel_coredi": 35.0}
SETTINGS = {"pixel_jit": None, "pixel_redi": {"name": "shapes_vit"}, "pixel_coredi": {"name": "shapes_dino"}}
STEPS = range(250, 2001, 250)
PROTOCOL = {"sampler": {"name": "heun", "steps": 15}, "guidance": {"name": "none"}, "samples": 2000, "seed": 1000}


def curve(end: float, seed: int) -> Curve:
    """Return the scores of one run: they fall as a run's do, and seeds lie 2 apart."""
    found = {step: end + 2 * (seed - 1) + 60 * math.exp(-step / 400) for step in STEPS}
    return {
        step: {"frechet": value, "precision": 1 - value / 200, "semantic/frechet": value / 10}
        for step, value in found.items()
    }


def compared_row(name: str, seeds: int = 3) -> ComparedRow:
    """Return one recipe of the table."""
    curves = [curve(ENDS[name], seed) for seed in range(seeds)]
    final = {metric: Spread.of([one[2000][metric] or 0.0 for one in curves]) for metric in METRICS}
    reached = {"pixel_jit": 2000.0, "pixel_redi": 400.0, "pixel_coredi": None}[name]
    return ComparedRow(
        name=name,
        settings={"encoder": SETTINGS[name], "train": {"steps": 2000, "seed": 0}, "evaluate": {"metrics": ["frechet"]}},
        step=2000,
        runs=[f"runs/{name}/{seed}" for seed in range(seeds)],
        seeds=list(range(seeds)),
        curves=curves,
        final=final,
        ratio=final["frechet"].mean / 72.0,
        reaches_first=reached,
        faster=2000 / reached if reached else None,
    )


def write_sample_comparison(folder: Path) -> Comparison:
    """Write a comparison of two tables with sweeps and grids."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [compared_row(name) for name in ENDS]
    grids = []
    for number, row in enumerate(rows):
        noise = np.random.default_rng(number).integers(0, 256, (60, 60, 3), dtype=np.uint8)
        Image.fromarray(noise.repeat(4, 0).repeat(4, 1)).save(folder / f"grid-{row.name}.png")
        grids.append(Grid(name=row.name, picture=f"grid-{row.name}.png"))
    numbers = Sweep(
        key="guidance.scale",
        values=[1, 1.5, 3],
        rows=[SweepRow(name=row.name, scores=[row.final, row.final, {}]) for row in rows],
    )
    names = Sweep(
        key="sampler", values=["euler", "heun"], rows=[SweepRow(name="pixel_jit", scores=[rows[0].final] * 2)]
    )
    pixels = ComparisonTable(
        title="Pixels",
        note="Scores of this table can be compared with each other.",
        metrics=METRICS,  # type: ignore[arg-type]
        main="frechet",
        rows=rows,
        sweeps=[numbers, names],
        grids=grids,
        protocol=PROTOCOL,
        hash="a1b2c3d4",
        revisions=["782e3d9"],
    )
    alone = ComparisonTable(
        title="Alone", metrics={"frechet": "lower"}, main="frechet", rows=[compared_row("pixel_jit", 1)]
    )
    comparison = Comparison(
        title="pixel_jit, pixel_redi, pixel_coredi",
        command="latsem compare pixel_jit pixel_redi pixel_coredi --seeds 3",
        tables=[pixels, alone],
        environment={"python": "3.11", "versions": {"torch": "2.13"}, "revision": None},
    )
    write_comparison(folder, comparison)
    return comparison


def record(step: int, scores: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return what a file of `evaluation/` holds."""
    return {
        "step": step,
        "scores": scores,
        "better": {"frechet": "lower", "precision": "higher", "kernel": "lower"},
        "hash": "a1b2c3d4",
        "protocol": PROTOCOL,
        **more,
    }


def write_lines(path: Path, lines: list[dict[str, Any]], cut_off: str = "") -> None:
    """Write a log, with a last line that was cut off if there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + cut_off)


def write_record(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Write a file of `evaluation/`."""
    (folder / "evaluation").mkdir(parents=True, exist_ok=True)
    (folder / "evaluation" / name).write_text(json.dumps(content))


def save_noise(path: Path, width: int, height: int, factor: int = 1) -> None:
    """Write a picture that compresses badly, of pixels enlarged by a factor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (height // factor, width // factor, 3), dtype=np.uint8)
    Image.fromarray(noise.repeat(factor, 0).repeat(factor, 1)).save(path)
