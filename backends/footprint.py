"""What a run takes of a machine: parameters, arithmetic, memory and disk, and what of it does not fit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from .assembly import Assembly
from .caching.estimate import FORWARDS_A_STEP, denoising_flops, encoding_flops
from .checkpointing.room import checkpoint_bytes, most_checkpoints
from .faking import StillFabric
from .hardware import (
    available_memory,
    device_name,
    free_disk,
    process_baseline,
    quiet_fabric,
    resolve_precision,
    wanted_accelerator,
    world_size,
)
from .loader import BatchPlan, batch_plan
from .planned_device import PlannedDevice
from .rehearsal import Memory, Rehearsal
from .settings import FabricSettings
from .sharding.prediction import held_by, in_parts

HEAP_SHARE, WORKSPACE = 0.08, 40 * 10**6
"""What the C library and the kernels hold beyond what is asked of them, on a CPU: a share of the rest, and bytes.
Our measurement: the peaks of seven runs of 0.75 to 5.6 GB lay 3 to 15 % above what they asked for."""

ORDER_BYTES = 80
"""Of an image in the order of an epoch, two of which are kept: a Python number and its place in a list."""


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters: what learns (denoiser, projection) and what is frozen."""

    denoiser: int
    projection: int
    encoder: int
    tokenizer: int


@dataclass(frozen=True)
class Arithmetic:
    """Of one image: multiply-adds of the denoiser's forward pass (the papers' Gflops), else operations (two of each).

    Attributes:
        training_flops: forward and backward passes of the denoiser.
        encoding_flops: the frozen networks; 0 where a cache takes their place.
    """

    forward_multiply_adds: int
    training_flops: int
    encoding_flops: int


@dataclass(frozen=True)
class CacheCost:
    """A cache of the recipe: the form of its features, its bytes, its folder, and whether it is there."""

    form: str
    bytes: int
    folder: Path
    there: bool


@dataclass(frozen=True)
class Disk:
    """Bytes on disk: a checkpoint, all that are kept, the cache in the recipe's form, and what is free for it."""

    checkpoint: int
    checkpoints_kept: int
    cache_form: str
    cache: int
    cache_there: bool
    cache_free: int
    run_free: int


@dataclass(frozen=True)
class Footprint:
    """What a run takes. Memory is that of one device, `peak` the whole of it, with the process on a CPU.

    Attributes:
        buckets: gradients on their way to other devices, and what is put together of parts that lie on several.
        copy: a checkpoint on its way to the disk while training goes on; 0 on a GPU, whose copy is in main memory.
        allocator: what the heap holds at the peak beyond what is asked of it; 0 on a GPU.
        phases: peak by phase, without the process and the allocator's share.
        baseline: the process before it builds anything; 0 on a GPU, whose context is not counted.
        data: what the process keeps of the images' names and order, and of the images if it renders them; 0 on a GPU.
        peak_phase: the phase in which the peak is reached.
        available: memory of the device, or of the machine that is not in use; None if it is not known.
        here: whether the run is planned for this machine, so that its disks count.
    """

    parameters: Parameters
    arithmetic: Arithmetic
    device: str
    precision: str
    plan: BatchPlan
    memory: Memory
    buckets: int
    copy: int
    allocator: int
    phases: dict[str, int]
    baseline: int
    data: int
    peak: int
    peak_phase: str
    available: int | None
    here: bool
    disk: Disk
    images: int
    classes: int
    steps: int
    epochs: float

    def values(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {**asdict(self), "plan": {**asdict(self.plan), "accumulation": self.plan.accumulation}}


class Predictor:
    """Predicts what a run of an assembly of fake networks takes of a machine.

    Args:
        stored: whether training reads what the frozen networks say from a cache.
        held: bytes that the source keeps of its images.
        device: what the run is planned for; None: this machine.
    """

    def __init__(
        self, assembly: Assembly, mode: FakeTensorMode, *, stored: bool, held: int, device: PlannedDevice | None
    ) -> None:
        self.assembly, self.mode, self.stored, self.planned = assembly, mode, stored, device
        self.counted_on = fake_device(assembly.fabric)
        self.on_cpu = wanted_accelerator(assembly.fabric) == "cpu"
        self.baseline = process_baseline() if self.on_cpu else 0
        self.data = held + ORDER_BYTES * len(assembly.source) if self.on_cpu else 0
        self.precision = self._precision()
        self.plan = batch_plan(assembly.train.batch_size, assembly.train.micro_batch, world_size(assembly.fabric))

    def footprint(self, cache: CacheCost, runs: Path) -> Footprint:
        """Return the whole prediction, for runs in a folder."""
        assembly, plan, train = self.assembly, self.plan, self.assembly.train
        quiet_fabric()
        fabric = StillFabric(accelerator=self.counted_on.type, devices=1, precision=self.precision)
        arithmetic = self._arithmetic()
        rehearsal = Rehearsal(assembly, fabric, plan, self.precision)
        memory = rehearsal.memory(self.mode, stored=self.stored)
        buckets, lies_in_parts = memory.gradients if plan.devices > 1 else 0, assembly.fabric.strategy == "fsdp"
        if lies_in_parts:
            memory, buckets = in_parts(memory, assembly.model, plan)
        disk = self._disk(cache, runs)
        copy = disk.checkpoint if self.on_cpu and 0 < train.checkpoint_every < train.steps else 0
        phases = {**memory.phases, "training": memory.phases["training"] + buckets + copy}
        if lies_in_parts and self.on_cpu:
            # The first process puts all of it together for the disk.
            phases["writing"] = held_by(memory) - memory.gradients + disk.checkpoint
        phase = max(phases, key=lambda name: phases[name])
        allocator = WORKSPACE + int(HEAP_SHARE * phases[phase]) if self.on_cpu else 0
        return Footprint(
            parameters=self._parameters(),
            arithmetic=arithmetic,
            device=self.planned.name if self.planned is not None else device_name(fabric.device),
            precision=self.precision,
            plan=plan,
            memory=memory,
            buckets=buckets,
            copy=copy,
            phases=phases,
            baseline=self.baseline,
            data=self.data,
            allocator=allocator,
            peak=self.baseline + self.data + phases[phase] + allocator,
            peak_phase=phase,
            available=available_memory(fabric.device) if self.planned is None else self.planned.memory,
            here=self.planned is None,
            disk=disk,
            images=len(assembly.source),
            classes=assembly.num_classes,
            steps=train.steps,
            epochs=train.steps * train.batch_size / len(assembly.source),
        )

    def _precision(self) -> str:
        """Return the precision; `auto` by what is known of a device that is not here."""
        planned, fabric = self.planned, self.assembly.fabric
        if planned is None or planned.bf16 is None or fabric.precision != "auto":
            return resolve_precision(fabric, "cpu" if self.on_cpu else self.counted_on.type)
        return "bf16-mixed" if planned.bf16 else "32-true"

    def _parameters(self) -> Parameters:
        model, space = self.assembly.model, self.assembly.space
        return Parameters(*map(_count, (model.denoiser, model.projection, space.encoder, space.tokenizer)))

    def _arithmetic(self) -> Arithmetic:
        with self.mode:
            forward = denoising_flops(self.assembly.model, self.assembly.space.device)
            encoding = 0 if self.stored else encoding_flops(self.assembly.source, self.assembly.space)
        return Arithmetic(forward // 2, FORWARDS_A_STEP * forward, encoding)

    def _disk(self, cache: CacheCost, runs: Path) -> Disk:
        checkpoint = checkpoint_bytes(self.assembly.model)
        return Disk(
            checkpoint=checkpoint,
            checkpoints_kept=checkpoint * most_checkpoints(self.assembly.train),
            cache_form=cache.form,
            cache=cache.bytes,
            cache_there=cache.there,
            cache_free=free_disk(cache.folder),
            run_free=free_disk(runs),
        )


def fake_device(settings: FabricSettings) -> torch.device:
    """Return the kind of device that fake tensors lie on: without a GPU the CPU, whose tensors are as large."""
    wanted = wanted_accelerator(settings)
    return torch.device("cpu" if wanted == "cuda" and not torch.cuda.is_available() else wanted)


def _count(module: Any) -> int:
    return sum(p.numel() for p in module.parameters()) if isinstance(module, nn.Module) else 0
