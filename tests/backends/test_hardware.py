"""What is chosen for a machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from latsem.backends import hardware
from latsem.backends.errors import UserError
from latsem.backends.hardware import make_fabric, resolve_precision
from latsem.backends.settings import FabricSettings


@pytest.mark.parametrize(("gain", "precision"), [(4.7, "bf16-mixed"), (1.2, "32-true"), (0.5, "32-true")])
def test_a_cpu_computes_in_bfloat16_only_where_that_is_faster(
    gain: float, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is measured once: what is kept counts from then on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = [{"float32": 1.0, "bfloat16": 1 / gain}, {"float32": 1.0, "bfloat16": gain}]
    monkeypatch.setattr(hardware, "seconds_of", lambda *_: measured.pop(0))
    assert resolve_precision(FabricSettings(), "cpu") == precision
    assert resolve_precision(FabricSettings(), "cpu") == precision
    assert resolve_precision(FabricSettings(precision="32-true"), "cpu") == "32-true"
    assert len(measured) == 1


def test_products_are_timed_in_both_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    gain = hardware.bf16_gain()
    kept = json.loads(next((tmp_path / "latsem" / "measured").iterdir()).read_text())
    assert gain == kept["found"]["float32"] / kept["found"]["bfloat16"] == hardware.bf16_gain() > 0
    assert kept["what"]["threads"] == torch.get_num_threads()


def test_a_batch_system_that_began_something_else_is_told_of_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = FabricSettings(accelerator="cpu", devices=2)
    for name, value in {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "training"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"^fabric: RuntimeError: You set `--ntasks=2` in your SLURM .*") as problem:
        make_fabric(settings)
    assert "\n" not in str(problem.value)
