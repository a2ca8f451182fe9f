"""Batches that other processes read: damage is named once and bounded, and what goes wrong there is said here."""

from __future__ import annotations

import itertools
import os
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK, write_shards

from latsem.backends.errors import RunFailed
from latsem.backends.loader import BatchPlan, ImageFeed
from latsem.backends.pixel import PixelSpace
from latsem.backends.reading import training_batches
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
