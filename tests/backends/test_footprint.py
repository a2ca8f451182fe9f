from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from latsem.backends.faking import fake_mode, parameters_faked
from latsem.backends.metering import MemoryMeter, bytes_of, count_flops, tensors_of
from latsem.components.registry import create
from latsem.components.streams import StreamSpec
from latsem.recipes import load
from latsem.recipes.checking import footprint

HEAVY = (
    "denoiser.width=512",
    "denoiser.depth=8",
    "denoiser.heads=8",
    "data.size=64",
    "sampler=euler",
    "sampler.steps=1",
    "train.steps=3",
    "train.batch_size=8",
    "evaluate.samples=0",
)
"""Weights dominate: about 1.3 GB at the peak."""

IMAGE = StreamSpec(
    name="image",
    channels=4,
    grid=32,
    patch=2,
    prediction="v",
    weight=1.0,
    scale=1.0,
    lead=0.0,
    own_time=False,
    stop_gradient=True,
    learned_variance=False,
)


@pytest.mark.parametrize(("size", "published"), [("B", 23.0), ("L", 80.7), ("XL", 118.6)])
def test_arithmetic_is_the_published_one(size: str, published: float) -> None:
    """Gflops of SiT and DiT at 256 x 256 (arXiv 2212.09748, table 4; 2401.08740), which are multiply-adds."""
    mode = fake_mode()
    with parameters_faked(mode, torch.device("cpu")):
        denoiser = create("denoiser", "sit", size=size, patch=2, streams={"image": IMAGE}, num_classes=1000)
    with mode:
        noisy, times = {"image": torch.zeros(1, *IMAGE.shape)}, {"image": torch.zeros(1)}
        counted = count_flops(lambda: denoiser(noisy, times, torch.zeros(1, dtype=torch.long)))
    assert counted / 2e9 == pytest.approx(published, rel=0.02)


def test_the_meter_counts_what_is_held_each_storage_once() -> None:
    meter = MemoryMeter()
    network = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(4)])
    meter.add(tensors_of(network))
    held = bytes_of(tensors_of(network))
    assert meter.live == held == 4 * 4 * (64 * 64 + 64)
    with meter:
        activations = network(torch.zeros(8, 64))
        assert meter.live == held + 5 * 4 * 8 * 64, "the input and what every layer made"
        activations.sum().backward()
        del activations
        assert meter.live == 2 * held, "gradients stay, activations do not"
        meter.peak = meter.live
        view = torch.zeros(10, 10).T
        assert meter.peak - 2 * held == 400 and view.shape == (10, 10)
        del view
    assert meter.live == 2 * held


PEAK_OF = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""A small process between: Linux counts to a process's peak what its parent held when it was started."""


@pytest.mark.parametrize(
    ("every", "devices", "strategy"),
    [(0, 1, "auto"), (1, 1, "auto"), (0, 2, "fsdp")],
    ids=["one checkpoint at the end", "checkpoints beside the training", "parts on two devices, the one that writes"],
)
def test_the_predicted_peak_is_that_of_a_real_run(every: int, devices: int, strategy: str, tmp_path: Path) -> None:
    """A real process, its own peak as the system counts it."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "latsem.cli"]
    heavy = [*HEAVY, f"train.checkpoint_every={every}", f"fabric.devices={devices}", f"fabric.strategy={strategy}"]
    check = [*command, "check", "pixel_jit", *heavy, "--json"]
    told = subprocess.run(check, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    predicted = json.loads(told.stdout)["peak"]
    run = [sys.executable, "-c", PEAK_OF, *command, "run", "pixel_jit", *heavy]
    ended = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    measured = int(ended.stdout) * (1 if sys.platform == "darwin" else 1024)
    assert measured > 1e9
    assert predicted == pytest.approx(measured, rel=0.10)


def test_parts_on_devices_are_counted_as_parts() -> None:
    changes = [*HEAVY, "fabric.accelerator=cpu", "fabric.devices=4"]
    whole, parts = (footprint(load("pixel_jit", [*changes, f"fabric.strategy={name}"])) for name in ("ddp", "fsdp"))
    for name in ("weights", "gradients", "optimizer", "average"):
        assert getattr(parts.memory, name) == pytest.approx(getattr(whole.memory, name) / 4, rel=0.02), name
    for found in (whole, parts):
        memory = vars(found.memory)
        of_training = sum(value for name, value in memory.items() if name != "phases") + found.buckets
        assert of_training == found.phases["training"]
    assert whole.memory.weights / 2 < parts.buckets < whole.memory.weights
    cut = footprint(load("pixel_jit", [*changes, "fabric.strategy=fsdp", "train.micro_batch=1"]))
    assert cut.memory.gradients == whole.memory.gradients, "they are handed out after the last part of a step"


def test_a_published_network_of_scores_is_counted_and_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    overrides = ["data.size=64", "denoiser.depth=1", "evaluate.samples=2100", "evaluate.extractor=inception"]
    memory = footprint(load("pixel_jit", overrides)).memory
    # 23.9 million parameters and running statistics, in float32.
    assert memory.frozen == pytest.approx(95.5e6, rel=0.01) and memory.phases["scoring"] > memory.phases["training"]
    assert not list(tmp_path.iterdir())


@pytest.mark.cuda
def test_the_predicted_peak_is_that_of_the_allocator(tmp_path: Path) -> None:
    recipe = load("pixel_jit", [*HEAVY, "fabric.devices=1", "fabric.accelerator=cuda"])
    predicted = footprint(recipe).peak
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    recipe.run(root=tmp_path, quiet=True)
    assert predicted == pytest.approx(torch.cuda.max_memory_allocated() - before, rel=0.10)
