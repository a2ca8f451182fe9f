"""Shared helpers: one thread (stable timing and numbers on shared machines) and a recipe that ends in seconds."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
if "LATSEM_TEST_CACHE" not in os.environ:
    # What is found out of this machine by tests is theirs, and the same in all of their processes.
    os.environ["LATSEM_TEST_CACHE"] = tempfile.mkdtemp(prefix="latsem-tests-")
    atexit.register(shutil.rmtree, os.environ["LATSEM_TEST_CACHE"], ignore_errors=True)
os.environ["XDG_CACHE_HOME"] = os.environ["LATSEM_TEST_CACHE"]

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

torch.set_num_threads(1)

QUICK = (
    "data.size=200",
    "denoiser.depth=1",
    "denoiser.width=32",
    "denoiser.heads=2",
    "sampler.steps=2",
    "train.steps=4",
    "train.batch_size=8",
    "train.log_every=2",
    "train.checkpoint_every=2",
    "evaluate.samples=66",
    "evaluate.reference=70",
    "evaluate.metrics=[frechet]",
)
"""Overrides that make a pixel recipe end in a second or two."""

QUICK_JOINT = (*QUICK, "projection.fit_images=64")


def torture(*values: Any) -> Any:
    """Return a parameter at the size that counts, beside the small one of every day: only for `pytest -m torture`."""
    return pytest.param(*values, marks=pytest.mark.torture)


FIGURE = "figure"
"""What a test has counted: a property of its report, which also comes here from a worker."""


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Take a line that is shown after all tests: what was counted."""
    return lambda line: request.node.user_properties.append((FIGURE, line))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what was counted."""
    for report in chain(*terminalreporter.stats.values()):
        # Each report of a test repeats what it has counted so far; the last one is that of its end.
        if getattr(report, "when", None) == "teardown":
            for name, line in report.user_properties:
                if name == FIGURE:
                    terminalreporter.write_line(line)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Run tests that are named one by one in this process: sooner than workers import torch, and open to a debugger."""
    return 0 if all("::" in argument for argument in config.args) else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a CUDA device where there is none, and say so."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


def checkpoint_tensors(folder: Path, file: str, step: int | None = None) -> dict[str, torch.Tensor]:
    """Return what a file of a run's checkpoint holds: that of a step, or the newest."""
    named = sorted(folder.glob("checkpoints/step-*")) if step is None else [folder / f"checkpoints/step-{step:08d}"]
    return load_file(named[-1] / f"{file}.safetensors")


def same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Return whether names and all bits are the same."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


STATE_FILES = ("model", "ema", "optimizer", "meter", "guard")
"""What a checkpoint holds beside JSON."""


def same_state(one: Path, other: Path) -> bool:
    """Return whether the newest checkpoints of two runs hold the same bits."""
    return all(same_tensors(checkpoint_tensors(one, file), checkpoint_tensors(other, file)) for file in STATE_FILES)


CLOCKED = ("images_per_second", "waiting_for_data")
"""What of a log is not the same each time."""


def log_of(folder: Path) -> list[list[tuple[str, Any]]]:
    """Return what a run's log says, in its order, but for what is measured by the clock."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [[(name, value) for name, value in line.items() if name not in CLOCKED] for line in lines]


def counted_graphs() -> tuple[list[bool], Callable[..., Any]]:
    """Return whether gradients were asked for in each graph, and the compiler that notes it: it compiles nothing."""
    graphs: list[bool] = []

    def count(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        del inputs
        graphs.append(torch.is_grad_enabled())
        return graph.forward

    torch._dynamo.reset()
    return graphs, count


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line as a real process, in an empty folder."""

    def run(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "latsem.cli", *arguments]
        environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of real image files: two classes, several sizes and formats."""
    root = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for number, (label, suffix, size) in enumerate(
        [("cat", "jpg", (40, 60)), ("cat", "png", (50, 33)), ("dog", "jpg", (32, 32)), ("dog", "webp", (64, 48))] * 25
    ):
        folder = root / label
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.{suffix}")
    return root


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Append a file to a tar."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_shards(photos: Path, *, count: int = 4, labelled: bool = True) -> Path:
    """Return a folder of tar shards of the photos, with `.cls` labels (cat 0, dog 1)."""
    folder = photos.parent / "shards"
    folder.mkdir(exist_ok=True)
    files = sorted(photos.rglob("*.*"), key=lambda path: path.stem)
    for number in range(count):
        with tarfile.open(folder / f"photos-{number:03d}.tar", "w") as tar:
            for path in files[number * len(files) // count : (number + 1) * len(files) // count]:
                add_member(tar, path.name, path.read_bytes())
                if labelled:
                    add_member(tar, f"{path.stem}.cls", str(("cat", "dog").index(path.parent.name)).encode())
    return folder


def save_dataset(photos: Path) -> Path:
    """Return a folder made by `save_to_disk`, of the photos in the order of their classes."""
    import datasets

    folder, files = photos.parent / "dataset", sorted(photos.rglob("*.*"))
    if not folder.exists():
        rows = {
            "label": [("cat", "dog").index(path.parent.name) for path in files],
            "picture": [{"bytes": path.read_bytes(), "path": path.name} for path in files],
        }
        kinds = {"label": datasets.ClassLabel(names=["cat", "dog"]), "picture": datasets.Image()}
        datasets.Dataset.from_dict(rows, features=datasets.Features(kinds)).save_to_disk(str(folder))
    return folder
