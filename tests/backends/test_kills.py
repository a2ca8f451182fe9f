"""Processes that are killed at random moments: the run ends with the bits of one that nobody disturbed."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from conftest import QUICK_JOINT, log_of, same_state, torture

from latsem.recipes import load

CHANGES = [
    *QUICK_JOINT,
    "train.steps=120",
    "train.checkpoint_every=3",
    "train.log_every=4",
    "train.picture_every=40",
    "train.keep=3",
    "evaluate.every=60",
]
MOST_WRITES = 4
"""Checkpoints that a process may write before it is killed inside one."""

POLL = 0.0002

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["latsem.recipes.assemble", "torch.utils.tensorboard"])


def train(root: Path) -> None:
    """Begin the run, or go on with it."""
    load("pixel_coredi", CHANGES).run(root=root, name="run", quiet=True)


def begin(root: Path) -> BaseProcess:
    process = processes.Process(target=train, args=(root,))
    process.start()
    return process


@dataclass
class Executioner:
    """Kills processes of runs, and counts; every third is to be in the middle of writing a checkpoint.

    Attributes:
        seconds: what an undisturbed run takes.
    """

    wanted: int
    seconds: float
    chance: random.Random
    kills: int = 0
    inside: int = 0

    @property
    def done(self) -> bool:
        return self.kills >= self.wanted and self.inside >= self.wanted // 3

    def deal_with(self, process: BaseProcess, folder: Path) -> bool:
        """Kill a process unless there were kills enough; return whether it ended by itself."""
        if self.done:
            process.join()
        elif 3 * self.inside <= self.kills:
            self._wait_for_a_write(process, folder)
            time.sleep(self.chance.uniform(0, 0.01))
        else:
            process.join(self.chance.uniform(0, self.seconds))
        process.kill()
        process.join()
        assert process.exitcode in (0, -9), "what was left cannot be gone on with"
        if process.exitcode:
            self.kills += 1
            self.inside += bool(unfinished(folder))
        return process.exitcode == 0

    def _wait_for_a_write(self, process: BaseProcess, folder: Path) -> None:
        writes, seen = self.chance.randint(1, MOST_WRITES), unfinished(folder)
        while writes and process.is_alive():
            found = unfinished(folder)
            writes -= bool(found - seen)
            seen |= found
            time.sleep(POLL)


def unfinished(folder: Path) -> set[Path]:
    return set(folder.glob("checkpoints/.step-*"))


@pytest.mark.parametrize("kills", [3, torture(100)])
def test_a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_been(
    kills: int, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    # The first process waits for modules that the others find loaded.
    for name in ("first", "whole"):
        begun = time.monotonic()
        undisturbed = begin(tmp_path / name)
        undisturbed.join()
        assert undisturbed.exitcode == 0
    hangman, runs = Executioner(kills, time.monotonic() - begun, random.Random(0)), 0  # noqa: S311
    while not hangman.done:
        runs += 1
        root = tmp_path / f"cut-{runs}"
        while not hangman.deal_with(begin(root), run_below(root)):
            pass
        assert_same_run(run_below(tmp_path / "whole"), run_below(root))
    figure(
        f"{hangman.kills} kills, {hangman.inside} of them inside a checkpoint: all {runs} runs ended with the bits of "
        "one that nobody disturbed"
    )


def run_below(root: Path) -> Path:
    return root / "pixel_coredi" / "run"


def assert_same_run(whole: Path, cut: Path) -> None:
    assert same_state(whole, cut) and log_of(whole) == log_of(cut)
    for name in ("done.json", "samples/*.png", "semantics/*.png", "checkpoints/*/state.json"):
        one, other = ({path.relative_to(root): path for path in root.glob(name)} for root in (whole, cut))
        assert one.keys() == other.keys() and one, name
        if not name.startswith("checkpoints"):
            assert all(one[path].read_bytes() == other[path].read_bytes() for path in one), name
