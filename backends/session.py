"""One run from its first step to its last line: start-up screen, training, pictures, scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ..components.streams import SEMANTIC
from .assembly import Assembly
from .checkpoint import checkpoints, load_weights
from .console import RunConsole, relative
from .drawing import RunDrawing
from .errors import Interrupted, UserError
from .evaluation import Evaluator
from .generation import ImageGenerator
from .hardware import device_name, environment, make_fabric, resolve_precision
from .loader import BatchPlan
from .model import JointModel
from .pictures import grid_picture, save_picture
from .run_folder import RunFolder, short_digest, write_atomically, write_json
from .screen import screen_rows
from .training import Trainer, due, fit_projection


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        folder: the run folder.
        scores: last score by metric; empty if the recipe asks for none.
    """

    folder: Path
    scores: dict[str, float]
    generator: ImageGenerator

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """Return `count` images `(count, 3, H, W)` in [-1, 1], from the moving average with the recipe's guidance."""
        return self.generator.images(range(count), seed)


class Session:
    """Runs one assembly in one folder."""

    def __init__(self, assembly: Assembly, folder: RunFolder, *, quiet: bool = False) -> None:
        self.assembly = assembly
        self.fabric: Fabric = make_fabric(assembly.fabric)
        self.fabric.launch()
        # A new folder is named by the time, which processes may read differently.
        self.folder = RunFolder(Path(self.fabric.broadcast(str(folder.path))))
        self.precision = resolve_precision(assembly.fabric, self.fabric.device.type)
        self.console = RunConsole(quiet=quiet or not self.fabric.is_global_zero)
        self.plan = self._plan()
        self.drawing = RunDrawing(assembly, self.folder, self.fabric.device)
        assembly.space.to(self.fabric.device)
        assembly.model.to(self.fabric.device)
        extractor: Any = assembly.extractor
        self.evaluator = Evaluator(
            assembly.evaluate, assembly.source, extractor.to(self.fabric.device), assembly.metrics, self.fabric.device
        )

    def run(self) -> RunResult:
        """Train what is missing, draw and score; a run that is done is only reported.

        Raises:
            Interrupted: the run was asked to stop; a checkpoint is kept.
            UserError: another process is training in the folder.
        """
        self.fit()
        self.screen()
        if self.folder.done.exists():
            self.console.say(f"this run is done already: {relative(self.folder.path)} (train another with --name)")
            return self._result()
        with self._alone_in_folder():
            scores = self._train()
        self._last_words(scores)
        result = self._result()
        self._leave()
        return result

    @contextmanager
    def _alone_in_folder(self) -> Iterator[None]:
        """Hold the folder's lock in the first process; all processes fail together if it is not free."""
        with ExitStack() as stack:
            problem = None
            if self.fabric.is_global_zero:
                try:
                    stack.enter_context(self.folder.occupied(self.assembly.recipe))
                    self._describe_folder()
                except UserError as error:
                    problem = str(error)
            problem = self.fabric.broadcast(problem)
            if problem is not None:
                raise UserError(problem)
            yield

    def _train(self) -> dict[str, float]:
        trainer = Trainer(self.fabric, self.assembly, self.folder, self.plan, self.console)
        if trainer.step:
            self.console.say(f"going on after step {trainer.step}")
        if not trainer.train(lambda step: self._after_step(trainer, step)):
            raise Interrupted(f"stopped after step {trainer.step}; the same command goes on from there")
        scores = self._last_scores()
        if self.fabric.is_global_zero:
            self.drawing.draw_evolution()
            write_json(self.folder.done, {"step": trainer.step, "scores": scores})
        return scores

    def _leave(self) -> None:
        """Leave the other processes in order: some back ends abort when one of them just ends."""
        if self.fabric.world_size > 1:
            self.fabric.barrier()
            torch.distributed.destroy_process_group()

    def fit(self) -> None:
        """Take the statistics that the projection needs from the data."""
        fit_projection(self.assembly, self.fabric.device)

    def draw_samples(self, count: int, seed: int, label: int | None = None) -> Path:
        """Draw images from the newest checkpoint into one picture in the run folder and return its path.

        Raises:
            UserError: no checkpoint, or no such class.
        """
        classes = self.assembly.source.num_classes
        if label is not None and label >= classes:
            raise UserError(f"--class {label}: the data has {classes} classes, counted from 0")
        step = self.load_newest()
        generator = self.generator(self.assembly.model)
        parts = [
            generator.images(indices, seed, only=label)
            for indices in _chunks(range(count), self.assembly.evaluate.batch_size)
        ]
        path = self.folder.samples / _sample_name(step, count, seed, label, self.assembly.recipe)
        save_picture(grid_picture(torch.cat(parts)), path)
        return path

    def screen(self) -> None:
        """Show what is about to run, with everything that `auto` became."""
        self.console.screen(f"latsem: {self.assembly.name}", self._screen_rows())

    def _plan(self) -> BatchPlan:
        train, devices = self.assembly.train, self.fabric.world_size
        micro = train.batch_size // devices if train.micro_batch == "auto" else train.micro_batch
        try:
            return BatchPlan(train.batch_size, devices, max(1, micro))
        except ValueError as error:
            raise UserError(f"train: {error}") from None

    def _screen_rows(self) -> dict[str, str]:
        device = f"{device_name(self.fabric.device)} x {self.fabric.world_size}"
        rows = screen_rows(self.assembly, self.plan, device, self.precision)
        return {**rows, "run folder": relative(self.folder.path)}

    def _describe_folder(self) -> None:
        if self.folder.resolved.exists():
            return
        resolved = {
            "recipe": self.assembly.recipe,
            "streams": {name: vars(spec) for name, spec in self.assembly.streams.items()},
            "resolved": self._screen_rows(),
        }
        write_atomically(self.folder.path / "recipe.yaml", self.assembly.text)
        write_json(self.folder.path / "environment.json", environment())
        write_json(self.folder.resolved, resolved)

    def generator(self, model: JointModel, *, guided: bool = True) -> ImageGenerator:
        """Return a generator for a model, with the recipe's guidance or none."""
        return ImageGenerator(
            model=model.eval(),
            space=self.assembly.space,
            guidance=self.assembly.guidance if guided else self.assembly.unguided,
            sampler=self.assembly.sampler,
            num_classes=self.assembly.source.num_classes,
            device=self.fabric.device,
            precision=self.precision,
        )

    def _after_step(self, trainer: Trainer, step: int) -> dict[str, float]:
        train, evaluate = self.assembly.train, self.assembly.evaluate
        last = step == train.steps
        if self.fabric.is_global_zero and (last or due(step, train.picture_every)):
            self.drawing.draw(self.generator(trainer.average), trainer.average, step)
        if evaluate.samples and (last or due(step, evaluate.every)):
            return {f"score/{name}": value for name, value in self._score(trainer.average, step).items()}
        return {}

    def _score(self, model: JointModel, step: int) -> dict[str, float]:
        settings = self.assembly.evaluate
        scores: dict[str, float] = {}
        if self.fabric.is_global_zero:
            scores = self.evaluator.score(self.generator(model, guided=settings.guided))
            record = {"step": step, "scores": scores, "protocol": self._protocol()}
            write_json(self.folder.evaluation / f"step-{step:08d}.json", record)
        self.fabric.barrier()
        return scores

    def _protocol(self) -> dict[str, Any]:
        recipe, settings = self.assembly.recipe, self.assembly.evaluate
        return {
            "sampler": recipe["sampler"],
            "guidance": recipe["guidance"] if settings.guided else {"name": "none"},
            "weights": f"moving average, decay {self.assembly.train.ema}",
            "labels": "balanced" if self.assembly.source.num_classes else "none",
            "samples": settings.samples,
            "extractor": recipe["evaluate"]["extractor"],
            "reference": f"first {self.evaluator.reference_size()} images of {json.dumps(recipe['data'])}",
            "seed": settings.seed,
            "precision": self.precision,
        }

    def _last_scores(self) -> dict[str, float]:
        written = sorted(self.folder.evaluation.glob("step-*.json"))
        if not written:
            return {}
        scores: dict[str, float] = json.loads(written[-1].read_text(encoding="utf-8"))["scores"]
        return scores

    def _last_words(self, scores: dict[str, float]) -> None:
        how = "with guidance" if self.assembly.evaluate.guided else "guidance off"
        for name, value in scores.items():
            self.console.say(f"{name} {value:.3f} ({self.assembly.evaluate.samples:,} images, {how})")
        folder = relative(self.folder.path)
        self.console.say(f"samples    {folder}/samples/step-{self.assembly.train.steps:08d}.png")
        if SEMANTIC in self.assembly.streams:
            self.console.say(f"semantics  {folder}/semantics/evolution.png")
        self.console.say(f"next       latsem sample {folder} -n 16 --seed 1")

    def _result(self) -> RunResult:
        self.load_newest()
        return RunResult(self.folder.path, self._last_scores(), self.generator(self.assembly.model))

    def load_newest(self) -> int:
        """Load the moving average of the newest checkpoint and return its step.

        Raises:
            UserError: there is no checkpoint.
        """
        found = checkpoints(self.folder)
        if not found:
            raise UserError(f"{self.folder.path}: no checkpoint yet; let the run reach its first one")
        load_weights(found[-1], self.assembly.model)
        return int(found[-1].name.removeprefix("step-"))


def _chunks(indices: range, size: int) -> Iterator[range]:
    return (indices[start : start + size] for start in range(0, len(indices), size))


def _sample_name(step: int, count: int, seed: int, label: int | None, recipe: dict[str, Any]) -> str:
    """Return a file name that differs whenever the images do."""
    how = short_digest([recipe["guidance"], recipe["sampler"], label])
    return f"sample-{step:08d}-n{count}-seed{seed}-{how}.png"
