"""Several processes of one run: one that ends or fails takes the others with it, soon and with the reason."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import QUICK

WITHIN = 60
"""Seconds that the others may take."""

PLUGIN = """
import os, signal
from latsem.backends.training import Trainer

one_step = Trainer._one_step

def broken(self, batches):
    if self.step == 4 and self.fabric.global_rank == {rank}:
        open("broken-at", "w").close()
        {act}
    return one_step(self, batches)

Trainer._one_step = broken
"""

ACTS = {
    "is killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "has no disk": "raise OSError(28, 'No space left on device', 'some.file')",
}


@pytest.mark.parametrize(("rank", "what"), [(0, "is killed"), (1, "is killed"), (1, "has no disk")])
def test_a_process_that_ends_takes_the_others_with_it(rank: int, what: str, tmp_path: Path) -> None:
    (tmp_path / "breaking.py").write_text(PLUGIN.format(rank=rank, act=ACTS[what]))
    (tmp_path / "two.yaml").write_text("base: pixel_jit\nplugins: [breaking.py]\n")
    changes = [*QUICK, "train.steps=100000", "evaluate.samples=0", "fabric.devices=2", "fabric.accelerator=cpu"]
    command = [sys.executable, "-m", "latsem.cli", "run", "two.yaml", *changes, "train.log_every=100"]
    begun = time.time()
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=said, stderr=said, start_new_session=True)
        process.wait(300)
        broken = (tmp_path / "broken-at").stat().st_mtime
        while ended := _alive(process.pid):
            assert time.time() - broken < WITHIN, ended
            time.sleep(0.1)
    assert broken > begun and time.time() - broken < WITHIN
    lines = (tmp_path / "said").read_text()
    assert process.returncode != 0 and "Traceback" not in lines, lines
    reason = "some.file: No space left on device" if what == "has no disk" else "another process of this run has ended"
    assert reason in lines, lines
    assert re.search("step-0000000[24] is kept; the same command goes on from there", lines), lines


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
