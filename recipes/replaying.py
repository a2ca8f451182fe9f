"""Computing a step again that failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ..backends.replay import Replayed, read_notes, replay
from .assemble import image_model
from .plugins import load_plugins
from .recipe import from_values

SHOWN = 8


def replay_file(path: Path, plugins: Sequence[str] = ()) -> Replayed:
    """Compute the step of a replay file again, on the kind of device that it failed on if there is one.

    Args:
        plugins: `plugins=[FILE, ...]` that the run was trained with.

    Raises:
        UserError: not a replay file, or a damaged one, or parts of plug-ins that are not named.
    """
    recorded = read_notes(path)
    load_plugins(plugins)
    recipe = from_values(str(path), recorded.recipe, data="unused")
    there = recorded.device != "cuda" or torch.cuda.is_available()
    device = torch.device(recorded.device if there else "cpu")
    model = image_model(recipe, recorded.num_classes)
    model.space.to(device)
    model.model.to(device)
    return replay(path, recorded, model, recipe.settings.train, device)


def report(found: Replayed) -> Iterator[str]:
    """Yield what is to be said of it, a line each."""
    recorded = found.recorded
    shape = f"{recorded.processes} process(es) x {recorded.parts} part(s) on {recorded.device}, {recorded.precision}"
    yield f"step {recorded.step}: {shape}"
    names = [name for process in recorded.images for part in process for name in part]
    yield f"images: {', '.join(names[:SHOWN])}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}"
    for name, value in found.values.items():
        then = recorded.values.get(name, "nothing")
        yield f"{name}: {value}" + ("" if then == value else f" (was {then})")
    yield f"not finite before the step: {', '.join(found.given[:SHOWN]) or 'nothing'}"
    yield f"begins in: {found.module or 'no module of the model'}"
    yield f"gradients that are not finite: {found.gradients[0]} of {found.gradients[1]} tensors"
    yield "the same as recorded, bit for bit" if found.same else "not the same as recorded"
