"""The training loop, on Lightning Fabric."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from functools import partial
from threading import Lock

import torch
from lightning_fabric import Fabric
from torch import Tensor

from .ahead import EncodedBatch, EncodingAhead
from .assembly import Assembly
from .blocks import checkpoint_activations
from .checkpointing.state import TrainingState
from .checkpointing.store import checkpoints
from .checkpointing.writing import CheckpointWriter
from .compiling import compile_blocks
from .console import RunConsole, TrainingProgress
from .guard import FiniteGuard, NotFinite
from .interrupt import StopRequest
from .loader import LABEL, Batch, BatchPlan
from .log import MetricLog
from .meter import Meter
from .model import JointModel
from .objective import Objective, StepDraws
from .profiling import StepProfiler
from .reading import reading_processes, training_batches
from .run_folder import RunFolder
from .sharding.choice import make_layout
from .sharding.tensors import whole
from .stages import AVERAGE, BACKWARD, DATA, ENCODING, FORWARD, GUARD, OPTIMIZER, Stages
from .waiting import WaitingWatch

Hook = Callable[[int], dict[str, float]]
"""Called after a step; what it returns is logged."""


def due(step: int, every: int) -> bool:
    """Return whether something that happens every so many steps (0: never) happens now."""
    return every > 0 and step % every == 0


ONE_BACKWARD = Lock()
"""Fabric knows by a flag of the whole process that a backward pass is its own: two threads take turns."""


class _CutOffReading(Exception):  # noqa: N818
    """A signal came while a step waited for its data."""


class Trainer:
    """Trains the model of an assembly in a run folder, from the newest checkpoint on if there is one.

    Everything random is a function of (seed, step, place in the batch), so going on from a checkpoint is exact, and how
    a batch is cut into devices and parts does not matter.
    """

    def __init__(
        self, fabric: Fabric, assembly: Assembly, folder: RunFolder, plan: BatchPlan, console: RunConsole
    ) -> None:
        self.fabric, self.assembly, self.folder, self.plan, self.console = fabric, assembly, folder, plan, console
        self.settings = assembly.train
        model = assembly.model
        self.layout = make_layout(fabric, model, self.settings)
        self.optimizer = self.layout.optimizer
        self.base_rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.meter, self.stages = Meter(), Stages(fabric.device)
        self.waiting = WaitingWatch(console.warn)
        self.encoding = self._encoding()
        self.objective = Objective(assembly, self.settings)
        # Only a projection that learns keeps running statistics.
        learns = model.projection is not None and any(True for _ in model.projection.parameters())
        changing = list(model.projection.buffers()) if model.projection is not None and learns else []
        self.guard = FiniteGuard(fabric, changing, self.settings.skip_nonfinite)
        average, first = self.layout.average_tensors(), fabric.is_global_zero
        self.state = TrainingState(model, average, self.optimizer, self.meter, self.guard, first)
        found = checkpoints(folder)
        self.step = self.state.load(found[-1]) if found else 0
        self.kept = self.step if found else None
        checkpoint_activations(model.get_submodule("denoiser"), self.settings.activation_checkpointing)
        self.to_compile = assembly.compiling(fabric.device).on
        if self.to_compile:
            compile_blocks(model.get_submodule("denoiser"), dynamic=False)
        self._set_rates(self.step)

    def average(self) -> JointModel:
        """Return the moving average as a model to draw and score with; all processes ask for it together."""
        return self.layout.average()

    def last(self) -> JointModel:
        """Return the last weights in the same way."""
        return self.layout.last()

    def train(self, after_step: Hook, profiler: StepProfiler | None = None) -> int:
        """Train to the last step and return 0, or the number of the signal that stopped it before.

        Args:
            profiler: is entered around the steps, and told of each.
        """
        first = self.fabric.is_global_zero
        with ExitStack() as stack:
            first_step = "compiling" if self.to_compile else "first step"
            progress = stack.enter_context(self.console.training(self.settings.steps, self.step, first_step))
            log = stack.enter_context(closing(MetricLog(self.folder, self.step))) if first else None
            writer = stack.enter_context(closing(self._writer())) if first else None
            stop = stack.enter_context(StopRequest())
            batches = self._waited_for(stack.enter_context(closing(self._batches())), stop)
            if profiler:
                stack.enter_context(profiler)
            self.meter.resume()
            self.stages.clear()
            act = partial(self._after_step, after_step, progress, log)
            finished = not self._left_undone(log) or self._let(stop, act)
            stopped_by = 0
            while finished and self.step < self.settings.steps and not (stopped_by := self._stopped_by(stop)):
                if not self._let_step(stop, batches):
                    finished = False
                    break
                progress.step(self.step)
                if profiler:
                    profiler.step()
                self._save(writer)
                finished = self._let(stop, act)
            self._save_last(writer)
        return stopped_by if finished else stop.signal

    def _let_step(self, stop: StopRequest, batches: Iterator[Batch]) -> bool:
        """Do one step; return whether it came to its end.

        Compiling in the first one may take minutes: a signal cuts it off, unless other processes wait for this one.
        """
        step, compiles = self.step, self.to_compile and self.fabric.world_size == 1
        self.to_compile = False
        try:
            if not compiles:
                self.meter.add(self._one_step(batches))
                return True
            finished = stop.let(lambda: self.meter.add(self._one_step(batches)))
        except _CutOffReading:
            self.guard.undo()
            finished = False
        if not finished:
            # Half a step: nothing of it is kept.
            self.step = step
        return finished

    def _let(self, stop: StopRequest, act: Callable[[], None]) -> bool:
        """Draw, score and log, unless a signal cuts it off; several processes stop together, at a step."""
        if self.fabric.world_size == 1:
            return stop.let(act)
        act()
        return True

    def _left_undone(self, log: MetricLog | None) -> bool:
        """Return whether the run ended between the newest checkpoint and what comes after its step.

        What is drawn and logged after a step begins when its checkpoint is safe, so that hours of scoring cost no
        training. Where its line of the log is missing it is done again.
        """
        undone = bool(self.fabric.broadcast(self.step > 0 and log is not None and log.last_step != self.step))
        if not undone and self._logs_now():
            self._clear_meter()
        return undone

    def _clear_meter(self) -> None:
        self.meter.clear()
        self.stages.clear()

    def _after_step(self, act: Hook, progress: TrainingProgress, log: MetricLog | None) -> None:
        means = self._means(progress) if self._logs_now() else {}
        stopwatch = time.monotonic()
        values = {**means, **act(self.step)}
        if log and values:
            log.write(self.step, self.step * self.plan.batch_size, values)
        # Scores and pictures take time that is not the training's.
        if means:
            self._clear_meter()
        else:
            self.meter.pause(time.monotonic() - stopwatch)

    def _save(self, writer: CheckpointWriter | None) -> None:
        """Keep the step if its turn has come, beside the training as long as there is more of it.

        Processes that do not write have parts of what is written.
        """
        if self.step == self.settings.steps:
            self._save_last(writer)
        elif due(self.step, self.settings.checkpoint_every):
            stopwatch = time.monotonic()
            if writer:
                writer.save(self.step, self.state)
            else:
                self.state.tensors(copy=False)
            self.kept = self.step
            self.meter.pause(time.monotonic() - stopwatch)

    def _save_last(self, writer: CheckpointWriter | None) -> None:
        if self.step and self.kept != self.step:
            if writer:
                writer.save_last(self.step, self.state)
            else:
                self.state.tensors(copy=False)
            self.kept = self.step
        if writer:
            writer.wait()

    def _writer(self) -> CheckpointWriter:
        return CheckpointWriter(self.folder, self.settings.keep, self.settings.keep_every)

    def _stopped_by(self, stop: StopRequest) -> int:
        """Return the signal that asks to stop: at once alone, at the next log step with others, so that all stop."""
        if self.fabric.world_size == 1:
            return stop.signal
        if self.step % self.settings.log_every:
            return 0
        asked = torch.tensor(float(stop.signal), device=self.fabric.device)
        return int(self.fabric.all_reduce(asked, reduce_op="max"))

    def _batches(self) -> Generator[Batch]:
        device = self.fabric.device
        return training_batches(
            self.assembly.feed,
            self.plan,
            seed=self.settings.seed,
            rank=self.fabric.global_rank,
            steps=range(self.step, self.settings.steps),
            workers=reading_processes(self.settings, device),
            pin=device.type != "cpu",
        )

    def _waited_for(self, batches: Iterator[Batch], stop: StopRequest) -> Iterator[Batch]:
        """Yield batches; a signal need not wait for one that may never come.

        Raises:
            _CutOffReading: a signal came first.
        """
        found: list[Batch | None] = []
        while True:
            with self.stages(DATA):
                if not self._let(stop, lambda: found.append(next(batches, None))):
                    raise _CutOffReading
            batch = found.pop()
            if batch is None:
                return
            yield batch

    def _logs_now(self) -> bool:
        return self.step % self.settings.log_every == 0 or self.step == self.settings.steps

    def _means(self, progress: TrainingProgress) -> dict[str, float]:
        """Return what is logged of the steps since the last line, and show it."""
        speed = self.meter.speed() * self.plan.batch_size
        waiting = self.stages.seconds[DATA] / self.meter.seconds()
        rate = float(self.optimizer.param_groups[0]["lr"])
        means = {**self.meter.means(), "lr": rate, "images_per_second": speed, "waiting_for_data": waiting}
        if self.meter.timed:
            self.waiting.see(waiting)
            left = (self.settings.steps - self.step) * self.plan.batch_size / speed
            progress.status(self.step, means["loss"], speed, left)
        return means

    def _one_step(self, batches: Iterator[Batch]) -> dict[str, Tensor]:
        step = self.step + 1
        self._set_rates(step)
        share = self.plan.share(self.fabric.global_rank)
        draws = self.objective.draws(self.fabric.device, step, self.plan.batch_size, share)
        values: dict[str, Tensor] = {}
        self.layout.wrapped.train()
        self.guard.begin()
        for places in self._parts():
            last = places.stop == share.stop
            with self.fabric.no_backward_sync(self.layout.wrapped, enabled=not last):
                batch = self.encoding.next(batches, self._encode)
                for name, value in self._backward(batch, draws, places).items():
                    values[name] = values.get(name, torch.zeros(())) + value / self.plan.accumulation
        with self.stages(GUARD):
            values["gradient_norm"] = self._gradient_norm()
            values = self._over_processes(values)
            self._judge(step, values)
        with self.stages(OPTIMIZER):
            self._update_weights()
        with self.stages(AVERAGE):
            self.layout.update_average(step)
        self.step = step
        return values

    def _parts(self) -> list[range]:
        """Return the places of this process's micro-batches in the batch."""
        return list(self.plan.parts(self.fabric.global_rank))

    def _over_processes(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return means over all processes: those of the whole batch, the same in all of them to the bit."""
        if self.fabric.world_size == 1:
            return values
        means: Tensor = self.fabric.all_reduce(torch.stack([value.float() for value in values.values()]))
        return dict(zip(values, means.unbind(), strict=True))

    def _judge(self, step: int, values: dict[str, Tensor]) -> None:
        """Let the optimizer leave out a step that is not finite, and fail at one too many."""
        left_out = self.guard.judge(step, values["loss"], values["gradient_norm"])
        # What torch's own GradScaler tells a fused optimizer.
        self.optimizer.found_inf = left_out  # type: ignore[attr-defined]
        if self.settings.skip_nonfinite:
            values["skipped"] = self.guard.skipped.float()
        failed = self.guard.failure() if self._may_wait(step) else 0
        if failed:
            raise NotFinite(failed, values if failed == step and self.fabric.world_size == 1 else {})

    def _update_weights(self) -> None:
        self.layout.wrapped_optimizer.step()
        self.layout.wrapped_optimizer.zero_grad()

    def _may_wait(self, step: int) -> bool:
        """Return whether to look for a failure: where that costs nothing, and before anything is logged or kept."""
        kept = step == self.settings.steps or due(step, self.settings.checkpoint_every)
        return self.fabric.device.type == "cpu" or kept or due(step, self.settings.log_every)

    def _encoding(self) -> EncodingAhead:
        return EncodingAhead(self.fabric.device)

    def _encode(self, batch: Batch) -> EncodedBatch:
        with self.stages(ENCODING), self.fabric.autocast():
            batch = {name: values.to(self.fabric.device, non_blocking=True) for name, values in batch.items()}
            return EncodedBatch(self.assembly.feed.encode(batch), batch[LABEL])

    def _backward(self, batch: EncodedBatch, draws: StepDraws, places: range) -> dict[str, Tensor]:
        with self.stages(FORWARD):
            terms, log = self.layout.wrapped(self.objective.batch(batch.encoded, batch.labels, draws, places))
            loss = torch.stack(list(terms.values())).sum()
        with self.stages(BACKWARD), ONE_BACKWARD:
            self.fabric.backward(loss / self.plan.accumulation)
        return {"loss": loss.detach(), **{f"loss/{name}": term.detach() for name, term in terms.items()}, **log}

    def _gradient_norm(self) -> Tensor:
        largest = self.settings.clip or math.inf
        wrapped, optimizer = self.layout.wrapped, self.layout.wrapped_optimizer
        norm = self.fabric.clip_gradients(wrapped, optimizer, max_norm=largest, error_if_nonfinite=False)
        return whole(torch.as_tensor(norm))

    def _set_rates(self, step: int) -> None:
        factor = min(1.0, step / self.settings.warmup) if self.settings.warmup else 1.0
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
