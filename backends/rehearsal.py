"""What a run holds in memory, found by doing what it does, in its order, on fake tensors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ..components.data.source import Source
from ..components.guidance.guidance import Guidance
from ..components.images import to_pixels, to_unit
from ..components.predictor import ConditionalPredictor, Instants, Predictor
from ..components.streams import IMAGE, Streams
from .ahead import EncodingAhead
from .assembly import Assembly
from .console import RunConsole
from .drawing import SEMANTIC_IMAGES
from .evaluation.collected import extracted
from .evaluation.score_parts import ScoreParts
from .faking import settle, without_fakes
from .fitting import FIT_BATCH, fit_statistics
from .generation import ImageGenerator
from .loader import IMAGES, LABEL, Batch, BatchPlan, Key
from .metering import MemoryMeter, bytes_of, tensors_of
from .model import JointModel
from .run_folder import RunFolder
from .screen import reconstructed_images
from .space import Encoded
from .training import Trainer

EVALUATIONS = 2
"""Calls of the model after which a sampler holds all that it ever does."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one device. The parts of training add up to its peak; other phases have peaks of their own.

    Attributes:
        weights: the trained networks.
        frozen: tokenizer, encoder and the network of the scores.
        activations: what else there is at the peak of training, batches and temporary results included.
        phases: peak by phase, the process itself not included.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    frozen: int
    activations: int
    phases: dict[str, int] = field(default_factory=dict)


class _RehearsedTrainer(Trainer):
    """The training loop, but for what it reads of values."""

    def _encoding(self) -> EncodingAhead:
        # Streams take no fake tensors either.
        return EncodingAhead(torch.device("cpu"))

    def _judge(self, step: int, values: dict[str, Tensor]) -> None:
        pass

    def _update_weights(self) -> None:
        # The optimizer reads its own count of steps: that tensor must be real.
        with without_fakes():
            super()._update_weights()

    def one_step(self, batch: Batch) -> None:
        """Train on one batch, again for every part of a step."""
        self._one_step(iter([batch] * self.plan.accumulation))

    def _parts(self) -> list[range]:
        # The second one holds as much as any that follows.
        return super()._parts()[-2:]


class _StoredFeed:
    """What is stored of images: batches hold what the frozen networks said."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def read(self, keys: Sequence[Key]) -> Batch:
        raise NotImplementedError

    def encode(self, batch: Batch) -> Encoded:
        return Encoded(**{name: values for name, values in batch.items() if name != LABEL})

    def code(self, batch: Batch) -> Tensor:
        return batch["code"]

    def features(self, batch: Batch) -> Tensor | None:
        return batch.get("features")


class _EnoughSeen(Exception):  # noqa: N818
    """A sampler has called the model often enough."""


class _Glance:
    """A guidance that ends the sampling after a few predictions."""

    def __init__(self, guidance: Guidance) -> None:
        self.guidance = guidance

    def __call__(self, model: ConditionalPredictor, labels: Tensor) -> Predictor:
        predict, calls = self.guidance(model, labels), 0

        def glance(streams: Streams, instants: Instants) -> Streams:
            nonlocal calls
            calls += 1
            predicted = predict(streams, instants)
            if calls == EVALUATIONS:
                raise _EnoughSeen
            return predicted

        return glance


class Rehearsal:
    """Goes through the phases of a run of an assembly of fake networks."""

    def __init__(self, assembly: Assembly, fabric: Fabric, plan: BatchPlan, precision: str) -> None:
        # Compilers take no fake parameters.
        self.assembly = replace(assembly, fabric=assembly.fabric.model_copy(update={"compile": False}))
        self.fabric, self.precision, self.plan = fabric, precision, plan
        self.meter, self.phases = MemoryMeter(), dict[str, int]()

    def memory(self, mode: FakeTensorMode, *, stored: bool) -> Memory:
        """Return what is held, and when it is most; with features `stored`, no training step encodes."""
        assembly = self.assembly
        frozen = tensors_of(assembly.space)
        if assembly.score is not None:
            frozen = [*frozen, *tensors_of(assembly.score.extractor)]
        with mode, self.meter:
            self.meter.add([*frozen, *tensors_of(assembly.model)])
            self._prepare()
            settle(assembly.model, mode)
            settle(assembly.space, mode)
            batch = self._stored_batch() if stored else self._batch()
            trainer = self._trainer(stored=stored)
            self._train(trainer, batch)
            average = trainer.average()
            settle(average, mode)
            self._draw(average)
            if assembly.score is not None:
                self._score(average, assembly.score)
            found = self._sum_up(trainer, frozen)
        self.meter.forget()
        return found

    def _sum_up(self, trainer: Trainer, frozen: list[Tensor]) -> Memory:
        trained = [p for p in self.assembly.model.parameters() if p.requires_grad]
        states = [value for state in trainer.optimizer.state.values() for value in state.values()]
        parts = {
            "weights": bytes_of(tensors_of(self.assembly.model)),
            "gradients": bytes_of(trained),
            "optimizer": bytes_of(states),
            "average": bytes_of(tensors_of(trainer.average())),
            "frozen": bytes_of(frozen),
        }
        activations = max(0, self.phases["training"] - sum(parts.values()))
        return Memory(**parts, activations=activations, phases=self.phases)

    def _images(self, count: int) -> Tensor:
        side = self.assembly.source.image_size
        return torch.zeros(count, 3, side, side, dtype=torch.uint8, device=self.fabric.device)

    def _prepare(self) -> None:
        assembly, batch = self.assembly, 2 * min(FIT_BATCH, self.assembly.space.piece)
        short = replace(
            assembly,
            fit_images=min(assembly.fit_images, batch),
            measure_images=min(assembly.measure_images, batch),
        )
        with self.meter.phase(self.phases, "fitting"):
            fit_statistics(short, self.fabric)
        if assembly.space.lossy:
            with self.meter.phase(self.phases, "reconstructing"):
                images = self._images(reconstructed_images(assembly, self.fabric.device))
                to_unit(images) - assembly.space.reconstruct(images)

    def _trainer(self, *, stored: bool) -> _RehearsedTrainer:
        assembly = self.assembly
        if stored:
            assembly = replace(assembly, feed=_StoredFeed(assembly.source))
        folder, console = RunFolder(Path("nowhere")), RunConsole(quiet=True)
        # A fake tensor that knows its value copies it, and asks for its address on the way.
        with without_fakes(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
            return _RehearsedTrainer(self.fabric, assembly, folder, self.plan, console)

    def _batch(self) -> Batch:
        count = self.plan.micro_batch
        return {LABEL: torch.zeros(count, dtype=torch.long), IMAGES: self._images(count)}

    def _stored_batch(self) -> Batch:
        encoded, count = self.assembly.space.encode(self._images(1)), self.plan.micro_batch
        named = {"code": encoded.code, "features": encoded.features}
        stored = {name: value.new_zeros(count, *value.shape[1:]) for name, value in named.items() if value is not None}
        return {LABEL: torch.zeros(count, dtype=torch.long), **stored}

    def _train(self, trainer: _RehearsedTrainer, batch: Batch) -> None:
        for _ in range(2):  # the optimizer has its state from the second on
            with self.meter.phase(self.phases, "training"):
                trainer.one_step(batch)

    def _generator(self, model: JointModel, *, guided: bool) -> ImageGenerator:
        generator = self.assembly.generator(self.fabric.device, self.precision, model=model, guided=guided)
        return replace(generator, guidance=_Glance(generator.guidance))

    def _generate(self, model: JointModel, count: int, *, guided: bool) -> Tensor:
        generator = self._generator(model, guided=guided)
        with suppress(_EnoughSeen):
            generator.streams(range(count), 0)
        spec = self.assembly.streams[IMAGE]
        return self.assembly.space.decode({IMAGE: torch.zeros(count, *spec.shape, device=self.fabric.device)}).cpu()

    def _draw(self, model: JointModel) -> None:
        space = self.assembly.space
        with self.meter.phase(self.phases, "drawing"):
            if self.assembly.train.picture_images:
                self._generate(model, self.assembly.train.picture_images, guided=True)
            if space.encoder is not None:
                space.encode(self._images(min(SEMANTIC_IMAGES, len(self.assembly.source))))

    def _score(self, model: JointModel, score: ScoreParts) -> None:
        evaluate = score.settings
        with self.meter.phase(self.phases, "scoring"):
            images = self._generate(model, min(evaluate.batch_size, evaluate.samples), guided=evaluate.guided)
            extracted(score.extractor, to_pixels(images), self.fabric.device)
