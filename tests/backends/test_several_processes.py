"""Several processes of one run: one that ends or fails takes the others with it, soon and with the reason."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import QUICK, QUICK_JOINT, log_of, same_state

WITHIN = 60
"""Seconds that the others may take."""

PLUGIN = """
import os, signal
from pathlib import Path
from latsem.backends.training import Trainer

one_step = Trainer._one_step

def disturbed(self, batches):
    if self.step == 4 and self.fabric.global_rank == {rank} and not Path("disturbed").exists():
        Path("disturbed").touch()
        {act}
    return one_step(self, batches)

Trainer._one_step = disturbed
"""
TWO = ("fabric.devices=2", "fabric.accelerator=cpu")

ACTS = {
    "is killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "has no disk": "raise OSError(28, 'No space left on device', 'some.file')",
}


@pytest.mark.parametrize(
    ("rank", "what", "strategy"), [(0, "is killed", "ddp"), (1, "is killed", "fsdp"), (1, "has no disk", "ddp")]
)
def test_a_process_that_ends_takes_the_others_with_it(rank: int, what: str, strategy: str, tmp_path: Path) -> None:
    write_recipe(tmp_path, "pixel_jit", rank, ACTS[what])
    changes = [*QUICK, *TWO, f"fabric.strategy={strategy}", "train.steps=100000", "evaluate.samples=0"]
    command = [sys.executable, "-m", "latsem.cli", "run", "disturbed.yaml", *changes, "train.log_every=100"]
    begun = time.time()
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=said, stderr=said, start_new_session=True)
        process.wait(300)
        broken = (tmp_path / "disturbed").stat().st_mtime
        while ended := _alive(process.pid):
            assert time.time() - broken < WITHIN, ended
            time.sleep(0.1)
    assert broken > begun and time.time() - broken < WITHIN
    lines = (tmp_path / "said").read_text()
    assert process.returncode != 0 and "Traceback" not in lines, lines
    reason = "some.file: No space left on device" if what == "has no disk" else "another process of this run has ended"
    assert reason in lines, lines
    assert re.search("step-0000000[24] is kept; the same command goes on from there", lines), lines


def test_processes_stop_together_and_go_on_to_the_bits_of_an_undisturbed_run(
    cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """The second of them gets the signal, in the middle of an epoch; batches are accumulated and read by workers."""
    write_recipe(tmp_path, "pixel_coredi", 1, "os.kill(os.getpid(), signal.SIGTERM)")
    changes = [*QUICK_JOINT, *TWO, "train.steps=8", "train.micro_batch=2", "train.workers=1", "evaluate.samples=0"]
    stopped = cli("run", "disturbed.yaml", *changes, "--name", "run")
    assert stopped.returncode != 0 and "stopped after step 6; the same command goes on from there" in stopped.stderr
    assert cli("run", "disturbed.yaml", *changes, "--name", "run").returncode == 0
    assert cli("run", "disturbed.yaml", *changes, "--name", "whole").returncode == 0
    cut, whole = (tmp_path / "runs" / "disturbed" / name for name in ("run", "whole"))
    assert same_state(whole, cut) and log_of(whole) == log_of(cut)


PROGRAM = """
from latsem.recipes import load

if __name__ == "__main__":
    for root in ("first", "second"):
        load("pixel_jit", {changes}).run(root=root, quiet=True)
"""


def test_a_program_may_run_one_recipe_after_another_on_two_devices(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM.format(changes=[*QUICK, *TWO, "fabric.strategy=fsdp"]))
    subprocess.run([sys.executable, "program.py"], cwd=tmp_path, timeout=300, check=True)
    first, second = (next((tmp_path / root / "pixel_jit").iterdir()) for root in ("first", "second"))
    assert same_state(first, second) and log_of(first) == log_of(second)


def test_a_meeting_place_that_is_taken_is_said_in_a_line_and_nobody_waits_there(
    cli: Callable[..., subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("", 0)) as taken:
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        # It ends once all processes have closed its streams.
        ended = cli("run", "pixel_jit", *QUICK, *TWO)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("fabric: the processes of this run cannot meet: ") and "address already in use" in last


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_first_process_that_ends_before_they_meet_leaves_nobody_behind(how: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "latsem.cli", "run", "pixel_jit", *QUICK, *TWO]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True) as first:
        while len(_alive(first.pid)) < 2:
            assert first.poll() is None
            time.sleep(0.01)
        first.send_signal(how)
    ended = time.time()
    while left := _alive(first.pid):
        assert time.time() - ended < WITHIN, left
        time.sleep(0.1)


def write_recipe(folder: Path, base: str, rank: int, act: str) -> None:
    """Write a recipe whose plug-in does something once, in one process, after step 4."""
    (folder / "disturbing.py").write_text(PLUGIN.format(rank=rank, act=act))
    (folder / "disturbed.yaml").write_text(f"base: {base}\nplugins: [disturbing.py]\n")


def _alive(session: int) -> list[str]:
    """Return the processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(path.parent.name)
    return found
