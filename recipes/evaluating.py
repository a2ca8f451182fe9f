"""Scores of runs that are there, by any protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..backends.checkpointing.store import newest_checkpoint, step_of
from ..backends.checkpointing.weights import load_weights
from ..backends.console import RunConsole
from ..backends.errors import UserError
from ..backends.evaluation.protocol import Alike, answers, clashes
from ..backends.evaluation.records import Record, record_path, score_lines, scores_of
from ..backends.evaluation.scoring import Known, Scoring
from ..backends.hardware import resolve_precision
from ..backends.launching import launch, leave
from ..backends.reporting.run_report import refresh_run_report
from ..backends.run_data import read_record
from ..backends.run_folder import RunFolder
from ..backends.shown import relative
from ..components.data.source import Source
from . import derive
from .assemble import build_encoder, build_source, image_model
from .judging import needs_data, score_parts
from .recipe import Recipe, of_run


def evaluate_run(folder: Path, overrides: Sequence[str] = ()) -> Path:
    """Score the newest checkpoint of a run folder, say the scores, and return their file.

    Args:
        overrides: changes of what does not change the weights. One of the guidance means scores with guidance.

    Raises:
        UserError: not a run folder, an override that does not fit, or data that are needed and not there.
    """
    run = RunFolder(folder)
    recipe = scored_recipe(run, overrides)
    scorer = RunScorer(recipe, run.num_classes())
    record = scorer.score(run, newest_checkpoint(run))
    console = RunConsole(quiet=not scorer.fabric.is_global_zero)
    if scorer.source is not None and not any(change.startswith("data") for change in overrides):
        _warn_of_other_data(run, scorer.source, console)
    of_guidance = list(derive.label_warnings(recipe.settings, run.num_classes()))
    for warning in dict.fromkeys([*recipe.warnings, *of_guidance]):
        if recipe.settings.evaluate.guided or warning not in of_guidance:
            console.warn(warning)
    for line in score_lines(record):
        console.say(line)
    path = record_path(run, record)
    console.say(f"stored     {relative(path)}")
    report = refresh_run_report(folder, console) if scorer.fabric.is_global_zero else None
    if report is not None:
        console.say(f"report     {relative(report)}")
    leave(scorer.fabric)
    return path


def _warn_of_other_data(run: RunFolder, source: Source, console: RunConsole) -> None:
    """Warn that the images that a run is compared with are not those that it was trained on."""
    record = read_record(run)
    differing = record.compare(source)[0] if record is not None else []
    if differing:
        console.warn(
            f"the data have changed since this run began, and it is scored against them: {'; '.join(differing)}"
        )


class RunScorer:
    """Scores checkpoints of runs whose networks are those of one recipe.

    Args:
        num_classes: of the data that the runs were trained on.
        known: references that were read before.

    Raises:
        UserError: the data, a model or the reference cannot be used.
    """

    def __init__(self, recipe: Recipe, num_classes: int, known: Known | None = None) -> None:
        settings = recipe.settings
        self.fabric = launch(settings.fabric)
        self.source = build_source(settings.data) if needs_data(settings) else None
        score = score_parts(settings, self.source)
        score.require_enough()
        self.parts = image_model(recipe, num_classes, build_encoder(settings) if score.data is not None else None)
        self.parts.space.to(self.fabric.device)
        self.parts.model.to(self.fabric.device)
        console = RunConsole(quiet=not self.fabric.is_global_zero)
        self.precision = resolve_precision(settings.fabric, self.fabric.device.type)
        self.scoring = Scoring(self.parts, score, self.fabric, precision=self.precision, console=console, known=known)
        self.evaluate = settings.evaluate

    def score(self, run: RunFolder, checkpoint: Path, *, alike: Alike = answers) -> Record:
        """Return the scores of a checkpoint, read or computed.

        Args:
            alike: whether scores of one protocol stand for those of another.

        Raises:
            UserError: it is damaged, or belongs to another model.
        """
        load_weights(checkpoint, self.parts.model, ema=self.evaluate.weights == "average")
        return self.scoring.record(run, self.parts.model, step_of(checkpoint), alike=alike)

    def scored_like(self, run: RunFolder, record: Record) -> list[Record]:
        """Return the scores that a run has by the protocol of one of them."""
        return [each for each in scores_of(run) if not clashes(record["protocol"], each["protocol"])]

    def images(self, checkpoint: Path, indices: range, seed: int) -> Tensor:
        """Return images of a checkpoint `(N, 3, H, W)` in [-1, 1], with guidance if they are scored with it."""
        load_weights(checkpoint, self.parts.model, ema=self.evaluate.weights == "average")
        generator = self.parts.generator(self.fabric.device, self.precision, guided=self.evaluate.guided)
        return generator.images(indices, seed, self.evaluate.labels)


def scored_recipe(run: RunFolder, overrides: Sequence[str]) -> Recipe:
    """Return the recipe of a run with changes of how it is scored.

    Raises:
        UserError: not a run folder, or an override that does not fit.
    """
    changes = [*implied_guidance(overrides), *overrides]
    recipe = of_run(run, changes)
    require_scores(str(run.path), recipe)
    return of_run(run, changes, data="here") if needs_data(recipe.settings) else recipe


def require_scores(name: str, recipe: Recipe) -> None:
    """Check that a recipe asks for scores.

    Raises:
        UserError: it does not.
    """
    if not recipe.settings.evaluate.samples or not recipe.settings.evaluate.metrics:
        raise UserError(f"{name}: asks for no score; set evaluate.samples=2000 and evaluate.metrics=[frechet]")


def implied_guidance(overrides: Sequence[str]) -> list[str]:
    """Return that scores are with guidance, if changes concern it and do not say so themselves."""
    guided = any(change.startswith(("guidance.", "guidance=")) for change in overrides)
    said = any(change.startswith("evaluate.guided") for change in overrides)
    return ["evaluate.guided=true"] if guided and not said else []
