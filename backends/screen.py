"""What the start-up screen says about a run before its first step."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic_core import to_jsonable_python

from ..components.images import mean_psnr, to_unit
from ..components.registry import find
from ..components.settings import Settings
from .assembly import Assembly
from .hardware import precision_reason
from .loader import BatchPlan, fixed_batches
from .run_folder import CHANGED
from .settings import EvaluateSettings
from .shown import relative

PARTS = ("data", "tokenizer", "encoder", "projection", "denoiser", "process", "guidance", "sampler")
"""Sections of a recipe that are a part, in the order in which they are shown."""


def screen_rows(
    assembly: Assembly, plan: BatchPlan, device: str, precision: str, kernels: Mapping[str, str]
) -> dict[str, str]:
    """Return the rows of the screen, with everything that `auto` became.

    Args:
        kernels: rows on how the network is computed.
    """
    train, kinds = assembly.train, [kind for kind in PARTS if assembly.recipe.get(kind)]
    parameters = sum(p.numel() for p in assembly.model.parameters() if p.requires_grad)
    epochs = train.steps * train.batch_size / len(assembly.source)
    streams, chosen = assembly.streams.items(), assembly.fabric.precision == "auto"
    return {
        **({CHANGED: shlex.join(assembly.overrides)} if assembly.overrides else {}),
        **{kind: part_words(kind, assembly.recipe[kind]) for kind in kinds},
        "device": device,
        "precision": precision + (f" (auto{precision_reason(assembly.fabric)})" if chosen else ""),
        **kernels,
        "parameters": parameter_row(parameters),
        "tokens": ", ".join(f"{name} {s.tokens} of {s.patch}x{s.patch}x{s.channels}" for name, s in streams),
        "streams": "; ".join(
            f"{name} scale {s.scale:g}, loss weight {assembly.model.weight(name):.3g}" for name, s in streams
        ),
        "images": assembly.source.describe(),
        "encoding": encoding_row(assembly.feed_name, assembly.feed_note),
        "batch": batch_row(plan),
        "steps": steps_row(train.steps, epochs),
        "scores": "none" if assembly.score is None else score_row(assembly.score.settings),
        "seed": str(train.seed),
    }


def encoding_row(feed: str, note: str) -> str:
    """Return where encoded images come from: the names of a cache's stores, whose folder is that of all caches."""
    stores = [Path(each) for each in feed.split(" + ")]
    if feed == "images":
        return f"on line{note}"
    return f"cached in {relative(stores[0].parent)}: {', '.join(store.name for store in stores)}"


def part_words(kind: str, part: Mapping[str, Any]) -> str:
    """Return a part's name, the parts inside it, and what is set otherwise than it is by default."""
    return " ".join([str(part["name"]), *_setting_words(part, find(kind, part["name"]).settings, "")])


def _setting_words(values: Mapping[str, Any], settings: type[Settings], prefix: str) -> Iterator[str]:
    for key, value in values.items():
        field = settings.model_fields.get(key)
        default = field.get_default(call_default_factory=True) if field is not None else None
        if isinstance(value, Mapping) and "name" in value:
            yield f"{prefix}{key}={value['name']}"
        elif isinstance(value, Mapping) and isinstance(default, Settings):
            yield from _setting_words(value, type(default), f"{prefix}{key}.")
        elif key != "name" and value != to_jsonable_python(default, fallback=str):
            yield f"{prefix}{key}={value if isinstance(value, str) else json.dumps(value)}"


def score_row(evaluate: EvaluateSettings) -> str:
    """Return what the run is scored by."""
    metrics = ", ".join(metric.name for metric in evaluate.metrics)
    extractor = part_words("extractor", evaluate.extractor.model_dump(mode="json"))
    when = f", every {evaluate.every:,} steps" if evaluate.every else ""
    return f"{metrics} of {evaluate.samples:,} images, features of {extractor}{when}"


def parameter_row(trained: int) -> str:
    """Return the number of parameters that learn."""
    return f"{trained / 1e6:.2f} M trained"


def batch_row(plan: BatchPlan) -> str:
    """Return how a batch is cut."""
    return f"{plan} (devices x micro x accumulation)"


def steps_row(steps: int, epochs: float) -> str:
    """Return the length of a run."""
    return f"{steps:,} = {epochs:.1f} epochs"


RECONSTRUCTED = {"cpu": 2**17, "cuda": 2**24}
"""Pixels that are reconstructed to say what the space loses: 128 images of 32 x 32; of 256 x 256 two on a CPU, which
takes seconds for each, and 256 on a GPU."""


def reconstructed_images(assembly: Assembly, device: torch.device) -> int:
    """Return how many of the first images show what the space loses."""
    pixels = RECONSTRUCTED.get(device.type, RECONSTRUCTED["cpu"])
    return min(256, max(1, pixels // assembly.source.image_size**2), len(assembly.source))


def loss_rows(assembly: Assembly, device: torch.device) -> dict[str, str]:
    """Return what the space itself loses of the first images, as rows of the screen."""
    if not assembly.space.lossy:
        return {}
    count = reconstructed_images(assembly, device)
    images, _ = next(fixed_batches(assembly.source, range(count), count))
    images = images.to(device)
    ratio = mean_psnr(assembly.space.reconstruct(images), to_unit(images))
    return {"reconstruction": f"{ratio:.2f} dB PSNR, mean of {count} images"}
