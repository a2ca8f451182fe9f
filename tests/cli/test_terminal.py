"""What is shown on a terminal, and that a log gets none of it."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK, QUICK_JOINT
from rich.console import Console

from latsem.backends.console import RunConsole
from latsem.backends.screen import part_words
from latsem.backends.shown import duration
from latsem.components.registry import KINDS, Part, available
from latsem.components.settings import Settings
from latsem.recipes import load
from latsem.recipes.assemble import open_session
from latsem.recipes.layers import shipped_recipes

Cli = Callable[..., subprocess.CompletedProcess[str]]


def on_a_terminal(folder: Path, *arguments: str) -> str:
    """Run a command on a terminal of 120 columns and return everything that was on its screen."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "latsem.cli", *arguments]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                break
        assert process.wait(timeout=60) == 0, shown.decode()
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_a_terminal_sees_what_is_being_done_and_a_log_does_not(cli: Cli, tmp_path: Path) -> None:
    changes = [*QUICK_JOINT, "evaluate.every=2"]
    shown = on_a_terminal(tmp_path, "run", "pixel_coredi", *changes, "--name", "a")
    for words in ("starting: loading torch", "measuring the statistics", "0/4 first step", "generated", "step 2/4"):
        assert words in shown, words
    piped = cli("run", "pixel_coredi", *changes, "--name", "b").stdout
    assert not re.search("starting|measuring|first step|generated", piped) and "\x1b" not in piped
    (line,) = [line for line in piped.splitlines() if line.startswith("step 2/4  frechet")]
    assert re.fullmatch(r"step 2/4  frechet [\d.]+; semantic frechet [\d.]+", line)

    drawn = on_a_terminal(tmp_path, "sample", "runs/pixel_coredi/a", "-n", "130")
    counted = {int(number) for number in re.findall(r"images .*?(\d+)/130", drawn)}
    # How often the bar is drawn in between depends on the machine.
    assert {0, 130} <= counted
    alone = cli("sample", "runs/pixel_coredi/a", "-n", "130")
    assert len(alone.stdout.splitlines()) == 1 and not alone.stderr


def test_ctrl_c_while_blocks_are_compiled_is_answered_at_once_and_nothing_is_lost(cli: Cli, tmp_path: Path) -> None:
    command = ["run", "pixel_jit", *QUICK, "fabric.compile=true", "evaluate.samples=0", "--name", "a"]
    compiling = (
        "import sys, time\n"
        "import latsem.backends.compiling, latsem.backends.training as training\n"
        "from latsem.cli.main import main\n"
        "latsem.backends.compiling.problem_here = lambda device: ''\n"
        "def takes_minutes(*inputs, **options):\n"
        "    print('compiling', flush=True)\n"
        "    time.sleep(600)\n"
        "def compile_blocks(network, **options):\n"
        "    network.forward = takes_minutes\n"
        "training.compile_blocks = compile_blocks\n"
        f"sys.argv = ['latsem', *{command!r}]\n"
        "main()\n"
    )
    arguments: Any = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", compiling], **arguments) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "compiling\n":
            assert process.poll() is None
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and time.monotonic() - begun < 300
    assert errors == "stopped after step 0; the same command goes on from there\n"
    assert not list(tmp_path.glob("runs/*/*/checkpoints/*"))
    command.remove("fabric.compile=true")
    assert cli(*command[:-1], "b").returncode == 0


def test_the_screen_names_every_part_and_what_was_changed(tmp_path: Path) -> None:
    changes = [*QUICK_JOINT, "guidance.scale=3", "evaluate.metrics=[frechet, kernel]"]
    session = open_session(load("pixel_coredi", changes), root=tmp_path)
    session.console.console = Console(file=StringIO(), width=400)
    session.fit()
    session.screen()
    shown = session.console.console.file.getvalue()  # type: ignore[attr-defined]
    rows = dict(line.strip().split(None, 1) for line in shown.splitlines() if not line.startswith("latsem"))
    assert shlex.split(rows["changed"]) == changes
    expected = {
        "data": "shapes size=200",
        "tokenizer": "pixel",
        "encoder": "shapes_vit",
        "guidance": "cfg scale=3.0",
        "sampler": "heun steps=2",
        "scores": "frechet, kernel of 66 images, features of shapes_scorer",
    }
    assert rows.items() >= expected.items()
    assert rows["denoiser"] == "jit fusion=merged attention=auto depth=1 width=32 heads=2"


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if "/" not in name])
def test_a_screen_without_changes_has_no_row_of_them(name: str, tmp_path: Path) -> None:
    session = open_session(load(name), root=tmp_path, quiet=True)
    assert "changed" not in session._screen_rows() and not list(tmp_path.iterdir())


def needs_nothing(settings: type[Settings]) -> bool:
    return not any(field.is_required() for field in settings.model_fields.values())


PARTS = [part for kind in KINDS for part in available(kind).values() if needs_nothing(part.settings)]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.kind}-{part.name}")
def test_a_part_is_shown_by_its_name_and_by_the_parts_inside_it(part: Part) -> None:
    name, *others = part_words(part.kind, part.settings().model_dump(mode="json")).split(" ")
    assert name == part.name and {word.partition("=")[0] for word in others} <= {"attention", "fusion", "network"}


def test_brackets_are_shown_as_they_are() -> None:
    console = RunConsole()
    console.console = Console(file=StringIO(), width=100)
    console.screen("latsem: [bold]x", {"changed": "evaluate.metrics=[frechet]", "data": "folder root=[red]/a[/b]"})
    shown = console.console.file.getvalue()  # type: ignore[attr-defined]
    assert all(words in shown for words in ("[bold]x", "evaluate.metrics=[frechet]", "root=[red]/a[/b]"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1.0 min"), (5399, "90.0 min"), (5400, "1.5 h"), (3.6e6, "1000.0 h")],
)
def test_times_are_in_the_unit_that_a_person_uses(seconds: float, text: str) -> None:
    assert duration(seconds) == text
