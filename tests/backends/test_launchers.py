"""Processes that something else began."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import QUICK_JOINT

from latsem.backends.errors import UserError
from latsem.backends.hardware import make_fabric, world_size
from latsem.backends.settings import FabricSettings

SMALL = (*QUICK_JOINT, "train.picture_images=2", "evaluate.samples=0", "fabric.accelerator=cpu")


def test_torchrun_says_how_many_devices_there_are(tmp_path: Path) -> None:
    begun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "latsem.cli"]
    command = [*begun, "run", "pixel_coredi", *SMALL, "fabric.strategy=fsdp"]
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "x 2" in done.stdout and "8 = 2 x 4 x 1" in done.stdout and done.stdout.count("batch ") == 1
    (folder,) = (tmp_path / "runs" / "pixel_coredi").iterdir()
    assert json.loads((folder / "done.json").read_text())["step"] == 4


def test_another_number_than_torchrun_began_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them would train a run of its own."""
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert world_size(FabricSettings(accelerator="cpu", num_nodes=2)) == 4
    for settings in (FabricSettings(accelerator="cpu"), FabricSettings(accelerator="cpu", devices=1)):
        with pytest.raises(UserError, match="torchrun began 4 process") as problem:
            make_fabric(settings)
        assert "\n" not in str(problem.value)
