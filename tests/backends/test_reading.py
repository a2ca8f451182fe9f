"""Batches that other processes read: damage is named once and bounded, and what goes wrong there is said here."""

from __future__ import annotations

import errno
import itertools
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK, same_state, write_shards

from latsem.backends import reading
from latsem.backends.errors import Interrupted, RunFailed
from latsem.backends.loader import BatchPlan, ImageFeed
from latsem.backends.pixel import PixelSpace
from latsem.backends.reading import training_batches
from latsem.backends.training import Trainer
from latsem.components.data.encoded import EncodedImages, UnreadableImages
from latsem.components.data.files import find_images
from latsem.components.registry import create
from latsem.recipes import load

DAMAGED = 6
ALONE = ["evaluate.samples=0", "train.steps=40", "train.log_every=40"]


READ = 8 * 25
"""Images that are read when a run is at its 25th step or a little before, and all workers together are."""


def wait_for_the_checkpoint(root: Path) -> None:
    """Wait until the checkpoint of step 20 is there, which is written beside the training."""
    ends = time.monotonic() + 60
    while not list(root.glob("runs/*/*/checkpoints/step-00000020")):
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.fixture
def damaged(photos: Path) -> list[str]:
    """Return names of photos whose headers are whole and whose pixels are not."""
    names = [name for name in find_images(photos).images if name.endswith(".jpg")][:DAMAGED]
    for name in names:
        content = (photos / name).read_bytes()
        (photos / name).write_bytes(content[: len(content) * 4 // 5])
    return names


def all_batches(source: Any, workers: int) -> list[dict[str, torch.Tensor]]:
    feed, plan = ImageFeed(source, PixelSpace(create("tokenizer", "pixel"), None, 32)), BatchPlan(10, 1, 5)
    return list(training_batches(feed, plan, seed=0, rank=0, steps=range(20), workers=workers, pin=False))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_damaged_is_named_once_and_counted(workers: int, photos: Path, damaged: list[str]) -> None:
    source = create("data", "folder", root=photos, max_unreadable=DAMAGED / 100)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batches = all_batches(source, workers)
    said = sorted(str(warning.message) for warning in caught)
    assert [line.partition(" below ")[0] for line in said] == sorted(damaged) and source.unreadable == set(damaged)
    assert sorted(line.rpartition("(")[2] for line in said) == [f"{n} so far, 6 allowed)" for n in range(1, 7)]
    with warnings.catch_warnings(action="ignore"):
        alone = all_batches(create("data", "folder", root=photos, max_unreadable=1), 0)
    assert all(torch.equal(one["images"], other["images"]) for one, other in zip(batches, alone, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:.*damaged, left out")
def test_one_too_many_of_all_processes_is_an_error_of_one_line(workers: int, photos: Path, damaged: list[str]) -> None:
    source = create("data", "folder", root=photos, max_unreadable=(DAMAGED - 1) / 100)
    with pytest.raises(UnreadableImages, match=r"^6 of 100 image files below .* cannot be read") as caught:
        all_batches(source, workers)
    assert "\n" not in str(caught.value)


def test_a_reader_that_dies_ends_the_run_in_one_line(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, original, read = os.getpid(), EncodedImages.item, itertools.count()

    def item(self: EncodedImages, index: int, seed: int) -> Any:
        if os.getpid() != parent and next(read) == READ / 2:
            wait_for_the_checkpoint(tmp_path)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, index, seed)

    changes = [*QUICK[1:], *ALONE, "data=folder", f"data.root={photos}", "train.checkpoint_every=20", "train.workers=2"]
    recipe = load("pixel_jit", changes)
    with monkeypatch.context() as patch:
        patch.setattr(EncodedImages, "item", item)
        with pytest.raises(RunFailed) as failure:
            recipe.run(root=tmp_path / "runs", quiet=True)
    line = str(failure.value)
    assert line.startswith("a process that reads images has died (") and "step-00000020 is kept" in line
    assert "\n" not in line
    assert (recipe.run(root=tmp_path / "runs", quiet=True).folder / "done.json").is_file()


def test_a_shard_that_disappears_ends_the_run_in_one_line(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_shards(photos)
    names = ["data=webdataset", f"data.shards={shards}/*.tar", f"data.cache={tmp_path}", "data.labels=none"]
    original, read = EncodedImages.item, itertools.count()

    def item(self: EncodedImages, index: int, seed: int) -> Any:
        if next(read) == READ:
            wait_for_the_checkpoint(tmp_path)
            for path in shards.glob("*-00[12].tar"):
                path.unlink()
            self._files = type(self._files)()  # type: ignore[attr-defined]
        return original(self, index, seed)

    monkeypatch.setattr(EncodedImages, "item", item)
    changes = [*QUICK[1:], *ALONE, *names, "train.checkpoint_every=20", "data.max_unreadable=0.03"]
    with pytest.warns(UserWarning, match="No such file or directory, left out"), pytest.raises(RunFailed) as failure:
        load("pixel_jit", changes).run(root=tmp_path / "runs", quiet=True)
    line = str(failure.value)
    assert line.startswith("4 of 100 image files in 4 shards") and "step-00000020 is kept" in line
    assert "the same command goes on from there" in line and "\n" not in line


def test_a_batch_that_never_comes_does_not_keep_a_signal_waiting(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second part of a step, after the first has changed running statistics: all of them are put back."""
    original, one_step, items = EncodedImages.item, Trainer._one_step, iter(())

    def step(self: Trainer, batches: Any) -> Any:
        nonlocal items
        items = iter(range(8)) if self.step == 3 else items
        return one_step(self, batches)

    def item(self: EncodedImages, index: int, seed: int) -> Any:
        if next(items, None) == 5:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            time.sleep(300)
        return original(self, index, seed)

    changes = [*QUICK[1:], "evaluate.samples=0", "data=folder", f"data.root={photos}", "projection.fit_images=64"]
    recipe = load("pixel_coredi", [*changes, "train.steps=6", "train.micro_batch=4", "train.picture_images=0"])
    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(EncodedImages, "item", item)
            patch.setattr(Trainer, "_one_step", step)
            with pytest.raises(Interrupted, match="stopped after step 3;"):
                recipe.run(root=tmp_path / "cut", quiet=True)
    finally:
        signal.signal(signal.SIGALRM, before)
    cut, whole = (recipe.run(root=tmp_path / name, quiet=True).folder for name in ("cut", "whole"))
    assert same_state(cut, whole)


SMALL = """
import sys
from latsem.backends.loader import BatchPlan, ImageFeed
from latsem.backends.pixel import PixelSpace
from latsem.backends.reading import training_batches
from latsem.components.registry import create

source = create("data", "folder", root=sys.argv[1], image_size=256)
feed = ImageFeed(source, PixelSpace(create("tokenizer", "pixel"), None, 256))
how = {"seed": 0, "rank": 0, "steps": range(4), "pin": False}
for one, other in zip(*(training_batches(feed, BatchPlan(10, 1, 10), workers=n, **how) for n in (0, 2)), strict=True):
    assert all(one[name].equal(other[name]) for name in one)
"""


@pytest.mark.parametrize("kilobytes", [64, 3000])
def test_shared_memory_that_is_too_small_is_gone_without(kilobytes: int, photos: Path) -> None:
    """As in a container: a batch of 1.9 MB, of which none or one has room."""
    mount = f"mount -t tmpfs -o size={kilobytes}k latsem-test /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk in memory")
    command = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", SMALL, str(photos)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("has no room for batches: they come through pipes") == 1


def test_tensors_of_every_kind_come_through_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(self: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", no_room)
    for dtype in (torch.uint8, torch.bfloat16, torch.float32, torch.int64, torch.bool):
        for shape in ((3, 5), (), (0, 4), (1,)):
            value = (torch.arange(math.prod(shape)) % 2).reshape(shape).to(dtype)
            handed = reading._handed(value)
            received = reading._received(pickle.loads(pickle.dumps(handed)))  # noqa: S301
            assert isinstance(handed, reading.Piped) and received.dtype == dtype and torch.equal(received, value)


def test_where_no_process_can_be_started_the_one_that_trains_reads(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = create("data", "folder", root=photos)
    alone = all_batches(source, 0)

    def refused(self: Any) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refused)
    with pytest.warns(UserWarning, match="no processes to read images can be started"):
        batches = all_batches(source, 2)
    assert all(torch.equal(one["images"], other["images"]) for one, other in zip(batches, alone, strict=True))


def test_a_batch_that_does_not_come_in_time_is_one_line(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LIMIT", 1)
    parent, original = os.getpid(), EncodedImages.item

    def item(self: EncodedImages, index: int, seed: int) -> Any:
        if os.getpid() != parent:
            time.sleep(300)
        return original(self, index, seed)

    monkeypatch.setattr(EncodedImages, "item", item)
    changes = [*QUICK[1:], *ALONE, "data=folder", f"data.root={photos}", "train.workers=1"]
    with pytest.raises(RunFailed, match="have given no batch for .* minutes; nothing is kept yet"):
        load("pixel_jit", changes).run(root=tmp_path / "runs", quiet=True)
