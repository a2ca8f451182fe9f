"""What can be timed of a recipe: a training step, sampling, encoding, reading, attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ...components.denoisers.attention.auto import REFERENCE
from ...components.denoisers.attention.kernel import AttentionKernel, AttentionShape
from ...components.denoisers.attention.trial import trials
from ...components.predictor import ConditionalPredictor, Instants, Predictor
from ...components.streams import Streams
from ..assembly import Assembly
from ..caching.estimate import FORWARDS_A_STEP, denoising_flops, encoding_flops
from ..console import RunConsole
from ..generation import ImageGenerator
from ..loader import IMAGES, Batch, BatchPlan
from ..metering import count_flops
from ..reading import reading_processes, training_batches
from ..run_folder import RunFolder
from ..stages import Stages
from ..training import Trainer
from .stand_in import StandInFeed

FITTED_ON = 32
"""Images that statistics are taken from, or stand for: as many as encoded at once, repeated under noise."""


class _BenchedTrainer(Trainer):
    """The training loop, a step at a time."""

    def advance(self, batches: Iterator[Batch]) -> None:
        """Train on a step's batches."""
        self._one_step(batches)


Seconds = Mapping[str, float]


@dataclass(frozen=True)
class Subject:
    """Something to be timed.

    Attributes:
        images: how many it deals with in a call; 0 if that means nothing.
        flops: floating-point operations of a call, what is computed again not counted twice; 0 if they are not known.
        blocks: how the network's blocks run; empty where none do.
        stages: seconds of the stages of so many calls, which are not those that are timed.
    """

    name: str
    call: Callable[[], object]
    images: int = 0
    flops: int = 0
    blocks: str = ""
    stages: Callable[[int], Seconds] = field(default=lambda _: {})


def fit(assembly: Assembly) -> None:
    """Take the statistics that a run takes of its data from a random batch."""
    space, projection = assembly.space, assembly.model.projection
    count = min(FITTED_ON, space.piece)
    encoded = space.encode(
        StandInFeed(assembly.source, space, None, stored=False).batch(count)[IMAGES].to(space.device)
    )
    if projection is not None and encoded.features is not None:
        # Features of noise are all alike: noise of their own keeps every direction.
        grids = encoded.features.repeat(FITTED_ON // count, 1, 1, 1)
        projection.fit([grids + torch.randn_like(grids)])
    space.tokenizer.fit([encoded.code])


def training_step(name: str, fabric: Fabric, assembly: Assembly, plan: BatchPlan, feed: StandInFeed) -> Subject:
    """Return a whole training step, from a batch in main memory to the moving average."""
    batch = feed.batch(plan.micro_batch)
    if fabric.device.type == "cuda":
        batch = {key: values.pin_memory() for key, values in batch.items()}
    trainer = _BenchedTrainer(
        fabric, replace(assembly, feed=feed), RunFolder(Path("unwritten")), plan, RunConsole(quiet=True)
    )
    batches = repeat(batch)
    forward = denoising_flops(assembly.model, fabric.device)
    encoding = 0 if feed.stored else encoding_flops(assembly.source, assembly.space)
    images = plan.micro_batch * plan.accumulation

    flops = images * (FORWARDS_A_STEP * forward + encoding)

    def stages(calls: int) -> Seconds:
        watch = trainer.stages = Stages(fabric.device, exact=True)
        for _ in range(calls):
            with watch("step"):
                trainer.advance(batches)
        whole = watch.seconds.pop("step")
        return {**watch.seconds, "rest": whole - sum(watch.seconds.values())}

    blocks = assembly.compiling(fabric.device).said
    return Subject(name, lambda: trainer.advance(batches), images, flops, blocks, stages)


def sampling(name: str, assembly: Assembly, device: torch.device, precision: str, count: int) -> Subject:
    """Return drawing a batch of images, with the recipe's guidance and sampler, and decoding them."""
    generator = assembly.generator(device, precision)
    forward = denoising_flops(assembly.model, device)
    rows = _rows_shown(generator, count)

    def stages(calls: int) -> Seconds:
        watch = Stages(device, exact=True)
        watched = replace(generator, guidance=_Watched(generator, watch))
        for _ in range(calls):
            with watch("sampling"):
                streams = watched.streams(range(count), 0)
            with watch("decoding"):
                watched.decoded(streams, range(count))
        seconds = watch.seconds
        network = seconds["network"]
        return {"network": network, "sampler": seconds["sampling"] - network, "decoding": seconds["decoding"]}

    blocks = assembly.compiling(device).said
    return Subject(name, lambda: generator.images(range(count), 0), count, rows * forward, blocks, stages)


class _Watched:
    """A generator's guidance, with the calls of the network timed."""

    def __init__(self, generator: ImageGenerator, watch: Stages) -> None:
        self.guidance, self.watch = generator.guidance, watch

    def __call__(self, model: ConditionalPredictor, labels: Tensor) -> Predictor:
        def watched(streams: Streams, instants: Instants, labels: Tensor) -> Streams:
            with self.watch("network"):
                return model(streams, instants, labels)

        return self.guidance(watched, labels)


def _rows_shown(generator: ImageGenerator, count: int) -> int:
    """Return how many images the network is shown to draw so many: every step and branch counts."""
    rows = 0

    class Counting:
        def __call__(self, model: ConditionalPredictor, labels: Tensor) -> Predictor:
            def counted(streams: Streams, instants: Instants, labels: Tensor) -> Streams:
                nonlocal rows
                rows += len(labels)
                return model(streams, instants, labels)

            return generator.guidance(counted, labels)

    replace(generator, guidance=Counting()).streams(range(count), 0)
    return rows


def encoding(name: str, assembly: Assembly, device: torch.device, count: int) -> Subject:
    """Return the frozen networks on a batch of images."""
    images = StandInFeed(assembly.source, assembly.space, None, stored=False).batch(count)[IMAGES].to(device)
    flops = count * encoding_flops(assembly.source, assembly.space)
    return Subject(name, lambda: assembly.space.encode(images), count, flops)


def reading(name: str, fabric: Fabric, assembly: Assembly, plan: BatchPlan) -> Subject:
    """Return reading a micro-batch of the real data, or of its cache, as training does."""
    batches = training_batches(
        assembly.feed,
        plan,
        seed=assembly.train.seed,
        rank=0,
        steps=range(10**9),
        workers=reading_processes(assembly.train, fabric.device),
        pin=fabric.device.type != "cpu",
    )
    return Subject(name, lambda: next(batches), plan.micro_batch)


def attention(kernels: Mapping[str, AttentionKernel], shape: AttentionShape, batch: int) -> Iterator[Subject]:
    """Yield attention kernels, forwards and backwards; the reference is one of them."""
    size = (batch, shape.tokens, shape.heads, shape.dim)
    inputs = [torch.zeros(size, device=shape.device, dtype=shape.dtype) for _ in range(3)]
    forward = count_flops(lambda: kernels[REFERENCE](*inputs))
    for name, call in trials(kernels, shape, batch).items():
        yield Subject(name, call, batch, FORWARDS_A_STEP * forward)
