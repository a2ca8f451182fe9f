"""Scores with their protocol: what was generated how, and compared with what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from .assembly import Assembly
from .checkpoint import load_newest
from .console import RunConsole, relative
from .evaluation import Evaluator
from .hardware import make_fabric, resolve_precision
from .model import JointModel
from .reporting.run_report import refresh_run_report
from .run_folder import RunFolder, short_digest, write_json


class Scoring:
    """Scores models of one assembly on one device."""

    def __init__(self, assembly: Assembly, device: torch.device, precision: str) -> None:
        self.assembly, self.device, self.precision = assembly, device, precision
        extractor: Any = assembly.extractor
        self.evaluator = Evaluator(assembly.evaluate, assembly.source, extractor.to(device), assembly.metrics, device)

    def record(self, model: JointModel, step: int) -> dict[str, Any]:
        """Return the scores of a model, and how they came about."""
        guided = self.assembly.evaluate.guided
        generator = self.assembly.generator(self.device, self.precision, model=model, guided=guided)
        return {"step": step, "scores": self.evaluator.score(generator), "protocol": self.protocol()}

    def protocol(self) -> dict[str, Any]:
        """Return everything that a score depends on, apart from the model."""
        recipe, settings = self.assembly.recipe, self.assembly.evaluate
        return {
            "sampler": recipe["sampler"],
            "guidance": recipe["guidance"] if settings.guided else {"name": "none"},
            "weights": f"moving average, decay {self.assembly.train.ema}",
            "labels": "balanced" if self.assembly.num_classes else "none",
            "samples": settings.samples,
            "extractor": recipe["evaluate"]["extractor"],
            "reference": f"first {self.evaluator.reference_size()} images of {json.dumps(recipe['data'])}",
            "seed": settings.seed,
            "precision": self.precision,
        }


def score_again(assembly: Assembly, folder: RunFolder) -> Path:
    """Score the newest checkpoint of a run by a protocol of its own, say the scores, and return their file.

    Raises:
        UserError: no checkpoint, or one of another model.
    """
    fabric = make_fabric(assembly.fabric)
    assembly.space.to(fabric.device)
    assembly.model.to(fabric.device)
    step = load_newest(folder, assembly.model)
    scoring = Scoring(assembly, fabric.device, resolve_precision(assembly.fabric, fabric.device.type))
    record = scoring.record(assembly.model, step)
    path = folder.evaluation / f"again-{step:08d}-{short_digest(record['protocol'])}.json"
    write_json(path, record)
    console = RunConsole()
    for name, value in record["scores"].items():
        console.say(f"{name} {value:.3f} ({assembly.evaluate.samples:,} images, guidance {_shown(record)})")
    console.say(f"protocol   {relative(path)}")
    report = refresh_run_report(folder.path, console)
    if report:
        console.say(f"report     {relative(report)}")
    return path


def _shown(record: dict[str, Any]) -> str:
    guidance = dict(record["protocol"]["guidance"])
    name = guidance.pop("name")
    return name + "".join(f" {key}={json.dumps(value)}" for key, value in guidance.items())
