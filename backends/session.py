"""One run from its first step to its last line: start-up screen, training, pictures, scores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor

from ..components.streams import SEMANTIC
from .assembly import Assembly
from .blocks import settle
from .caching.feed import CachedFeed
from .checkpointing.room import require_room
from .checkpointing.store import checkpoint_at, checkpoints, damage, remove_leftovers, set_damaged_aside
from .checkpointing.weights import load_newest, load_weights
from .command_line import command, plugin_words
from .console import RunConsole
from .drawing import RunDrawing
from .errors import Interrupted, RunFailed, system_line
from .evaluation.protocol import answers, matches
from .evaluation.records import Record, score_lines, scores_in_a_line, scores_of
from .evaluation.scoring import Scoring
from .failures import kept_by, one_line_failures
from .files import write_atomically, write_json
from .fitting import fit_statistics
from .generation import ImageGenerator
from .guard import NotFinite
from .hardware import device_name, environment, release_freed_memory, resolve_precision
from .launching import launch, leave
from .loader import ImageFeed, batch_plan
from .model import JointModel
from .processes import in_first
from .profiling import step_profiler
from .replay import write_replay
from .reporting.page import FILE as REPORT
from .reporting.run_report import refresh_run_report
from .run_data import RunData
from .run_folder import ENVIRONMENT, RECIPE, RunFolder, Values, same_run
from .screen import loss_rows, screen_rows
from .semantic_health import SemanticHealth, summary
from .shown import relative
from .training import Trainer, due


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
    """Runs one assembly in one folder.

    Args:
        begun: the recipe that the run folder has until its checkpoint is loaded, if the run is resumed with more steps
            or with data at another place; None: the same.
    """

    def __init__(
        self, assembly: Assembly, folder: RunFolder, *, quiet: bool = False, begun: Values | None = None
    ) -> None:
        self.assembly, self.begun = assembly, assembly.recipe if begun is None else begun
        self.fabric: Fabric = launch(assembly.fabric)
        # A new folder is named by the time, which processes may read differently.
        self.folder = folder.at(Path(self.fabric.broadcast(str(folder.path))))
        self.precision = resolve_precision(assembly.fabric, self.fabric.device.type)
        self.console = RunConsole(quiet=quiet or not self.fabric.is_global_zero)
        self.plan = batch_plan(assembly.train.batch_size, assembly.train.micro_batch, self.fabric.world_size)
        self.data = RunData(self.folder, assembly.source, assembly.space)
        self.drawing = RunDrawing(assembly, self.folder, self.fabric.device)
        assembly.space.to(self.fabric.device)
        assembly.model.to(self.fabric.device)
        self.attention = settle(assembly.model.denoiser, self.fabric.device, self.precision)
        how: Any = {"precision": self.precision, "console": self.console}
        self.health = SemanticHealth(assembly, self.fabric, self.console.warn)
        self.scoring = Scoring(assembly, assembly.score, self.fabric, **how) if assembly.score is not None else None

    def run(self, *, last: bool = True, profiled: bool = False, accept_data: bool = False) -> RunResult:
        """Train what is missing, draw and score; a run that is done is only reported.

        Args:
            last: whether its processes have nothing more to do together.
            profiled: whether a few steps leave a trace in the run folder.
            accept_data: whether data that have changed since the run began are accepted.

        Raises:
            Interrupted: the run was asked to stop; a checkpoint is kept.
            RunFailed: it could not go on; the newest checkpoint is kept.
            UserError: another process is training in the folder, none of its checkpoints is whole, the data have
                changed, or the disk is too small.
        """
        with one_line_failures(self.folder):
            return self._run(last, profiled, accept_data)

    def _run(self, last: bool, profiled: bool, accept_data: bool) -> RunResult:
        self.compare_data(accept=accept_data)
        in_first(self.fabric, self._recover)
        done = self.folder.done.exists() and self.assembly.train.steps == self.begun["train"]["steps"]
        if isinstance(self.assembly.feed, CachedFeed) and not done:
            in_first(self.fabric, self.assembly.feed.compare_sums)
        self.fit()
        self.screen()
        release_freed_memory()
        if done:
            in_first(self.fabric, self._note_changes_alone)
            self.console.say(f"this run is done already: {relative(self.folder.path)} (train another with --name)")
            self._report()
            return self._result()
        if self.assembly.score is not None:
            self.assembly.score.require_enough()
        in_first(self.fabric, partial(require_room, self.folder, self.assembly.model, self.assembly.train))
        with self._alone_in_folder():
            self._train(profiled)
        self._last_words()
        result = self._result()
        if last:
            leave(self.fabric)
        return result

    def compare_data(self, *, accept: bool) -> None:
        """Compare the data with those that the run began with, in the first process; see `RunData.compare`."""
        in_first(self.fabric, partial(self.data.compare, accept=accept, warn=self.console.warn))

    @contextmanager
    def _alone_in_folder(self) -> Iterator[None]:
        """Hold the folder's lock in the first process; all processes fail together if it is not free."""
        with ExitStack() as stack:

            def take() -> None:
                stack.enter_context(self.folder.occupied(self.begun))
                remove_leftovers(self.folder)
                self._describe_folder()

            in_first(self.fabric, take)
            yield

    def _recover(self) -> None:
        """Go back to the newest checkpoint that is whole; a run that was done is so no longer."""
        found = checkpoints(self.folder)
        if found and damage(found[-1]):
            with self.folder.occupied(self.begun):
                set_damaged_aside(self.folder, self.console.warn)
                self.folder.done.unlink(missing_ok=True)

    def _note_changes(self) -> None:
        """Make the folder that of the recipe with more steps, or with data at another place."""
        if not same_run(self.begun, self.assembly.recipe):
            self.folder.become(self.assembly.recipe)
        self.folder.note_screen(self._screen_rows())

    def _note_changes_alone(self) -> None:
        with self.folder.occupied(self.begun):
            self._note_changes()

    def _train(self, profiled: bool) -> None:
        if isinstance(self.assembly.feed, ImageFeed):
            self.assembly.space.accelerate()
        with self.console.working("preparing the training"):
            trainer = Trainer(self.fabric, self.assembly, self.folder, self.plan, self.console)
        # Only now: the run stays what it was unless it can be loaded.
        in_first(self.fabric, self._note_changes)
        if trainer.step:
            self.console.say(f"going on after step {trainer.step}")
        try:
            wanted = profiled and self.fabric.is_global_zero
            steps = range(trainer.step, self.assembly.train.steps)
            profiler = step_profiler(self.folder.path, steps, self.console.say) if wanted else None
            number = trainer.train(lambda step: self._after_step(trainer, step), profiler)
        except NotFinite as failure:
            raise RunFailed(self._not_finite(trainer, failure)) from None
        if number:
            self._report()
            raise Interrupted(f"stopped after step {trainer.step}; the same command goes on from there", number)
        if self.fabric.is_global_zero:
            self.folder.require_held()
            self.drawing.draw_evolution()
            write_json(self.folder.done, {"step": trainer.step, "scores": self._last_scores()})
        self._report()
        # The others read the last checkpoint, which the first process has written.
        self.fabric.barrier()
        # Nothing is trained from here on: what was spread over devices is whole again.
        self.assembly = replace(self.assembly, model=trainer.last())

    def _not_finite(self, trainer: Trainer, failure: NotFinite) -> str:
        """Keep the step that failed, and return what is said of it."""
        path = self.folder.replays / f"step-{failure.step:08d}.safetensors"
        again = f"{self._command('replay', relative(path))} computes it again and says where it begins"
        model = trainer.last()
        if self.fabric.is_global_zero:
            self.folder.require_held()
            try:
                write_replay(trainer, model, self.precision, failure, path)
            except OSError as error:
                path.unlink(missing_ok=True)
                again = f"it could not be written for a replay ({system_line(error)})"
        # A process that ends takes the others with it.
        self.fabric.barrier()
        return (
            f"{failure}; {kept_by(self.folder)}. {again}; a lower train.lr or fabric.precision=32-true may help, "
            "train.skip_nonfinite leaves out some"
        )

    def fit(self) -> None:
        """Take the statistics that projection and tokenizer need from weights that are there, or from the data.

        Raises:
            UserError: weights to start from that are missing, damaged, or of another model.
        """
        start = self.assembly.train.checkpoint
        if checkpoints(self.folder):
            load_newest(self.folder, self.assembly.model)
        elif start is not None:
            found = checkpoint_at(start)
            self.data.compare_classes(RunFolder(found.parent.parent), self.console.warn)
            load_weights(found, self.assembly.model)
            self.console.say(f"starting from the moving average of {relative(found)}")
        else:
            with self.console.working("measuring the statistics of the first images"):
                fit_statistics(self.assembly, self.fabric)

    def screen(self) -> None:
        """Show what is about to run, with everything that `auto` became; the first process does."""
        if not self.fabric.is_global_zero:
            return
        with self.console.working("trying out the machine"):
            rows = self._screen_rows()
        self.console.screen(f"latsem: {self.assembly.name}", rows)

    def _screen_rows(self) -> dict[str, str]:
        device = f"{device_name(self.fabric.device)} x {self.fabric.world_size}"
        if self.fabric.world_size > 1:
            device += " (fsdp)" if self.assembly.fabric.strategy == "fsdp" else " (ddp)"
        kernels = {"attention": self.attention, "blocks": self.assembly.compiling(self.fabric.device).said}
        rows = screen_rows(self.assembly, self.plan, device, self.precision, kernels)
        return {**rows, **self.loss_rows, "run folder": relative(self.folder.path)}

    @cached_property
    def loss_rows(self) -> dict[str, str]:
        """What the space itself loses of the first images, as rows of the screen; measured once."""
        return loss_rows(self.assembly, self.fabric.device)

    def _describe_folder(self) -> None:
        self.data.note()
        if self.folder.resolved.exists():
            self.folder.note_place(self.assembly.recipe)
            return
        resolved = {
            "recipe": self.assembly.recipe,
            "num_classes": self.assembly.num_classes,
            "feed": self.assembly.feed_name,
            "streams": {name: vars(spec) for name, spec in self.assembly.streams.items()},
            "resolved": self._screen_rows(),
        }
        write_atomically(self.folder.path / RECIPE, self.assembly.text)
        for name, source in self.assembly.plugin_texts.items():
            write_atomically(self.folder.path / name, source)
        write_json(self.folder.path / ENVIRONMENT, environment())
        write_json(self.folder.resolved, resolved)

    def generator(self, model: JointModel | None = None) -> ImageGenerator:
        """Return a generator for the model or its moving average, with the recipe's guidance."""
        return self.assembly.generator(self.fabric.device, self.precision, model=model)

    def _after_step(self, trainer: Trainer, step: int) -> dict[str, float]:
        train = self.assembly.train
        last = step == train.steps
        drawn = last or due(step, train.picture_every)
        if self.fabric.is_global_zero:
            self.folder.require_held()
        scores = self.health.after_step(step, trainer.average)
        if drawn:
            self._draw(trainer, step)
        if self.scoring is not None and (last or due(step, self.scoring.settings.every)):
            release_freed_memory()
            average = self.scoring.settings.weights == "average"
            record = self.scoring.record(self.folder, trainer.average() if average else trainer.last(), step)
            scores |= {f"score/{name}": value for name, value in record["scores"].items()}
            if not last:
                self.console.say(f"step {step}/{train.steps}  {scores_in_a_line(record)}")
        if self.data.changes and (last or due(step, train.log_every)):
            scores["data_changes"] = float(len(self.data.changes))
        if drawn and not last:
            self._report()
        return scores

    def _draw(self, trainer: Trainer, step: int) -> None:
        average = trainer.average()
        if self.fabric.is_global_zero:
            release_freed_memory()
            self.drawing.draw(self.generator(average), average, step)

    def _report(self) -> None:
        if self.fabric.is_global_zero:
            self.folder.require_held()
            refresh_run_report(self.folder.path, self.console)

    def _last_record(self) -> Record | None:
        """Return the newest scores by the recipe's own protocol."""
        if self.scoring is None:
            return None
        asked = self.scoring.protocol()
        mine = [record for record in scores_of(self.folder) if matches(record["protocol"], asked)]
        # Of two revisions of the code, this one.
        return max(mine, key=lambda record: (record["step"], answers(record["protocol"], asked)), default=None)

    def _last_scores(self) -> dict[str, float]:
        record = self._last_record()
        return dict(record["scores"]) if record else {}

    def _last_words(self) -> None:
        record = self._last_record()
        for line in score_lines(record) if record else ():
            self.console.say(line)
        folder = relative(self.folder.path)
        if self.assembly.train.picture_images:
            self.console.say(f"samples    {folder}/samples/step-{self.assembly.train.steps:08d}.png")
        if SEMANTIC in self.assembly.streams:
            self.console.say(f"semantics  {folder}/semantics/evolution.png")
        if said := summary(self.health.latest):
            self.console.say(f"stream     {said}")
        if (self.folder.path / REPORT).exists():
            self.console.say(f"report     {folder}/{REPORT}")
        self.console.say(f"next       {self._command('sample', folder, '-n', 16, '--seed', 1)}")

    def _command(self, *words: object) -> str:
        """Return a command of this run, with the plug-ins that it needs."""
        return command("latsem", *words, *plugin_words(self.assembly.recipe))

    def _result(self) -> RunResult:
        load_newest(self.folder, self.assembly.model)
        return RunResult(self.folder.path, self._last_scores(), self.generator())
