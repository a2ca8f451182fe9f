"""A terminal that closes, or a pipe whose reader ends: a run keeps its state, or goes on without its output."""

from __future__ import annotations

import errno
import io
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import QUICK

from latsem.backends.console import RunConsole
from latsem.backends.errors import Interrupted
from latsem.backends.interrupt import StopRequest
from latsem.backends.output import LOST
from latsem.backends.training import Trainer
from latsem.recipes import load

ENDLESS = [
    *QUICK,
    "train.steps=100000",
    "train.checkpoint_every=0",
    "train.picture_images=0",
    "evaluate.samples=0",
    # A signal does not wait for a first step that is compiled.
    "fabric.compile=false",
]
COMMAND = [sys.executable, "-m", "latsem.cli", "run", "pixel_jit", "--name", "run"]
ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "120"}


def steps_kept(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("runs/pixel_jit/run/checkpoints/step-*"))


def test_a_terminal_that_closes_ends_a_run_with_a_checkpoint(tmp_path: Path) -> None:
    """A real one: the process gets SIGHUP, and what it prints from then on is refused."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(COMMAND[0], [*COMMAND, *ENDLESS], ENVIRONMENT)  # noqa: S606
    shown, ends = b"", time.monotonic() + 300
    while not (tmp_path / "runs/pixel_jit/run/metrics.jsonl").is_file():
        assert time.monotonic() < ends, shown
        shown += os.read(terminal, 10_000)
    while b"loss" not in shown:
        shown += os.read(terminal, 10_000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + signal.SIGHUP
    assert len(steps_kept(tmp_path)) == 1


def test_a_pipe_whose_reader_ends_does_not_end_a_run(tmp_path: Path) -> None:
    changes = [*ENDLESS, "train.steps=40"]
    process = subprocess.Popen(
        [*COMMAND, *changes], cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None and b"latsem: pixel_jit" in process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 0
    assert steps_kept(tmp_path) == ["step-00000040"] and (tmp_path / "runs/pixel_jit/run/done.json").is_file()


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC])
def test_output_that_fails_is_dropped_with_one_line(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise OSError(number, os.strerror(number))

    console = RunConsole()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Gone())
        console.say("text")
        with console.training(10, 0) as progress:
            progress.status(1, 0.5, 1.0, 1.0)
    assert LOST.format(reason=os.strerror(number)) in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdout", None)
    console.say("text")


@pytest.mark.parametrize(
    ("sent", "heard"),
    [
        (["SIGHUP"], "SIGHUP"),
        (["SIGHUP", "SIGHUP", "SIGHUP"], "SIGHUP"),
        (["SIGTERM", "SIGHUP"], "SIGTERM"),
        (["SIGHUP", "SIGTERM", "SIGHUP"], "SIGTERM"),
    ],
)
def test_a_hang_up_asks_to_stop_and_never_counts_as_the_second_request(sent: list[str], heard: str) -> None:
    with StopRequest() as stop:
        for name in sent:
            os.kill(os.getpid(), getattr(signal, name))
    assert stop.signal == getattr(signal, heard)


def test_a_process_that_ignores_hang_ups_goes_on_doing_so() -> None:
    """As `nohup` begins it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.signal and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_of_a_program_is_stopped_by_a_hang_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Trainer._one_step

    def step(self: Trainer, batches: object) -> object:
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGHUP)
        return original(self, batches)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_one_step", step)
    with pytest.raises(Interrupted) as stopped:
        load("pixel_jit", ENDLESS).run(root=tmp_path / "runs", name="run", quiet=True)
    assert stopped.value.signal == signal.SIGHUP and steps_kept(tmp_path) == ["step-00000001"]
