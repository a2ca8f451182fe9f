"""The report of `latsem check`: what a recipe takes, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..backends.footprint import Footprint
from ..backends.screen import batch_row, parameter_row, steps_row
from ..backends.shown import size
from . import derive
from .recipe import Recipe

Row = tuple[str, str]


def report_rows(recipe: Recipe, found: Footprint) -> Iterator[Row]:
    """Yield the rows of the report."""
    yield from shapes_of(recipe)
    yield from _work_rows(found)
    yield from _memory_rows(found)
    yield from _disk_rows(found, unused=recipe.settings.cache.use == "never")


def shapes_of(recipe: Recipe) -> Iterator[Row]:
    """Yield the streams of a recipe."""
    for name, spec in derive.stream_specs(recipe.settings).items():
        tokens = f"{spec.tokens} tokens of {spec.patch}x{spec.patch}x{spec.channels}"
        yield name, f"{spec.channels}x{spec.grid}x{spec.grid}, {tokens}, predicts {spec.prediction}"


def _work_rows(found: Footprint) -> Iterator[Row]:
    count, work = found.parameters, found.arithmetic
    trained = f"denoiser {_millions(count.denoiser)}, projection {_millions(count.projection)}"
    frozen = f"encoder {_millions(count.encoder)}, tokenizer {_millions(count.tokenizer)}"
    yield "parameters", f"{parameter_row(count.denoiser + count.projection)} ({trained}); frozen: {frozen}"
    yield "forward", f"{work.forward_multiply_adds / 1e9:,.4g} G multiply-adds an image"
    encoding = f", encoding {work.encoding_flops / 1e9:,.4g} GFLOP" if work.encoding_flops else ""
    yield "training", f"{work.training_flops / 1e9:,.4g} GFLOP an image (forward and backward){encoding}"
    yield "images", f"{found.images:,}, {found.classes} classes"
    yield "batch", batch_row(found.plan)
    yield "steps", steps_row(found.steps, found.epochs)


def _memory_rows(found: Footprint) -> Iterator[Row]:
    memory = found.memory
    yield "device", f"{found.device} x {found.plan.devices}, {found.precision}"
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "buckets": found.buckets,
        "checkpoint": found.copy,
        "optimizer": memory.optimizer,
        "average": memory.average,
        "frozen": memory.frozen,
        "activations": memory.activations,
        "process": found.baseline,
        "data": found.data,
        "allocator": found.allocator,
    }
    yield "memory", ", ".join(f"{name} {size(count)}" for name, count in parts.items() if count)
    process = found.baseline + found.data
    yield "phases", ", ".join(f"{name} {size(process + count)}" for name, count in found.phases.items())
    there = (
        "its memory is not known: --device h100:8 or 8x80GB"
        if found.available is None
        else f"{size(found.available)} are there"
    )
    yield "peak", f"{size(found.peak)} a device, while {found.peak_phase}; {there}"


def _disk_rows(found: Footprint, *, unused: bool) -> Iterator[Row]:
    disk = found.disk
    yield "checkpoint", f"{size(disk.checkpoint)}; {size(disk.checkpoints_kept)} at most at a time"
    state = "there" if disk.cache_there else "not used" if unused else "not made"
    free = f"; {size(disk.cache_free)} are free" if found.here else ""
    yield "cache", f"{size(disk.cache)} as '{disk.cache_form}' ({state}){free}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"


def shortages(found: Footprint) -> list[str]:
    """Return what does not fit, a line each: on this machine, or into the device that the run is planned for."""
    disk, lines = found.disk, []
    # On a CPU every process takes its own part of the same memory.
    needed = found.peak * (found.plan.devices if found.baseline else 1)
    if found.available is not None and needed > found.available:
        lines.append(
            f"memory: {size(needed)} while {found.peak_phase}, and there are {size(found.available)}; a smaller "
            "train.micro_batch, evaluate.batch_size or denoiser takes less"
        )
    if not found.here:
        return lines
    if not disk.cache_there and disk.cache > disk.cache_free:
        lines.append(f"cache: {size(disk.cache)}, and {size(disk.cache_free)} are free; cache.folder puts it elsewhere")
    if disk.checkpoints_kept > disk.run_free:
        lines.append(f"checkpoints: {size(disk.checkpoints_kept)}, and {size(disk.run_free)} are free")
    return lines


def numbers(recipe: Recipe, found: Footprint) -> dict[str, Any]:
    """Return the report as plain values: bytes, counts and names."""
    streams = {
        name: {
            "channels": spec.channels,
            "grid": spec.grid,
            "tokens": spec.tokens,
            "patch": spec.patch,
            "prediction": spec.prediction,
        }
        for name, spec in derive.stream_specs(recipe.settings).items()
    }
    return {"recipe": recipe.name, "streams": streams, **found.values(), "does_not_fit": shortages(found)}
