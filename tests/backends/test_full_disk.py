"""A disk that is full at any write of a run: it ends in one line, and goes on to the bits of an undisturbed one."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK, log_of, same_state, torture

from latsem.backends import tensor_files
from latsem.backends.checkpointing import room
from latsem.backends.checkpointing.store import checkpoints, damage, step_of
from latsem.backends.errors import RunFailed
from latsem.backends.run_folder import RunFolder
from latsem.recipes import load

CHANGES = [*QUICK[:-1], "train.steps=6", "train.picture_every=4", "evaluate.every=4"]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class FullDisk:
    """A disk below a folder that is full from some write on.

    Attributes:
        writes: files that were begun to be written, and folders that were made, so far.
        full_from: the first of them that finds no space; 0: none does.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.writes, self.full_from, self.on = str(root), 0, 0, False
        self.original = tensor_files.save_file

    def watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count what Python writes; refuse it where the disk is full."""
        if not self.on:
            return
        if (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING) or event == "os.mkdir":
            self.write(arguments[0])

    def save(self, tensors: Any, path: Path, notes: Any = None) -> None:
        """Write tensors, or half of them."""
        try:
            self.write(path)
        except OSError:
            path.write_bytes(b"half of it")
            raise
        self.original(tensors, path, notes)

    def write(self, path: Any) -> None:
        """Take note of a write."""
        if isinstance(path, int) or not str(os.fsdecode(path)).startswith(self.root) or str(path).endswith(".lock"):
            return
        self.writes += 1
        if self.full_from and self.writes >= self.full_from:
            full, self.full_from = self.full_from, 0
            try:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            finally:
                self.full_from = full


_disks: list[FullDisk] = []
sys.addaudithook(lambda event, arguments: [disk.watch(event, arguments) for disk in _disks] and None)


@contextmanager
def disk_below(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FullDisk]:
    """Put a disk below a folder, as long as the block lasts."""
    disk = FullDisk(root)
    _disks.append(disk)
    with monkeypatch.context() as patch:
        patch.setattr(tensor_files, "save_file", disk.save)
        yield disk
    _disks.remove(disk)


def run(root: Path) -> Path:
    return load("pixel_jit", CHANGES).run(root=root, name="run", quiet=True).folder


def assert_nothing_is_lost(folder: RunFolder, before: int) -> int:
    """Check that all checkpoints are whole, the newest of before among them, and return the newest."""
    kept = checkpoints(folder)
    assert [damage(checkpoint) for checkpoint in kept] == [""] * len(kept)
    newest = step_of(kept[-1]) if kept else 0
    assert newest >= before
    return newest


def assert_same_run(whole: Path, cut: Path) -> None:
    assert same_state(whole, cut) and log_of(whole) == log_of(cut)
    assert (whole / "done.json").read_bytes() == (cut / "done.json").read_bytes()


# The writer of events fails in a thread of its own.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("every", [9, torture(1)])
def test_a_disk_that_is_full_at_any_write_costs_no_checkpoint(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    with disk_below(tmp_path / "whole", monkeypatch) as disk:
        disk.on = True
        whole = run(tmp_path / "whole")
    tried, ended = 0, 0
    for full_from in range(1, disk.writes + 1, every):
        root = tmp_path / f"full-{full_from}"
        with disk_below(root, monkeypatch) as full:
            full.on, full.full_from = True, full_from
            try:
                run(root)
            except (RunFailed, OSError) as failure:
                assert "No space left on device" in str(failure) and "\n" not in str(failure)
                ended += 1
        folder = RunFolder(root / "pixel_jit" / "run")
        assert_nothing_is_lost(folder, 0)
        assert_same_run(whole, run(root))
        shutil.rmtree(root)
        tried += 1
    assert ended
    figure(f"no space at {tried} writes, one after the other: {ended} runs ended in a line, none lost a checkpoint")


@contextmanager
def small_disk(at: Path, kilobytes: int) -> Iterator[Callable[[int], None]]:
    """Mount a disk in memory, and yield what gives it another size."""
    at.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "latsem-test", str(at)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk in memory")
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}k", str(at)], check=True) and None
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.torture
def test_a_real_disk_of_any_size_costs_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    """Writes that begin and find no space half-way, those of compiled libraries included."""
    whole = run(tmp_path / "whole")
    needed = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()) // 1000
    monkeypatch.setattr(room, "free_disk", lambda path: 10**12)
    sizes, ended = range(40, 2 * needed, max(1, needed // 40)), 0
    for size in sizes:
        disk = tmp_path / f"disk-{size}"
        with small_disk(disk, size) as resize:
            before = 0
            for more in (0, needed // 10):
                resize(size + more)
                try:
                    run(disk)
                except (RunFailed, OSError) as failure:
                    assert "No space left on device" in str(failure) and "\n" not in str(failure)
                    ended += 1
                before = assert_nothing_is_lost(RunFolder(disk / "pixel_jit" / "run"), before)
            resize(10 * needed)
            assert_same_run(whole, run(disk))
    assert ended
    figure(f"disks of {len(sizes)} sizes: {ended} runs found no space, none lost a checkpoint")
