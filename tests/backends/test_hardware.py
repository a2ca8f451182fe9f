"""What is chosen for a machine."""

from __future__ import annotations

import pytest
import torch

from latsem.backends.errors import UserError
from latsem.backends.hardware import make_fabric, resolve_precision
from latsem.backends.settings import FabricSettings


@pytest.mark.parametrize(("amx", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_cpu_computes_in_bfloat16_only_where_that_is_faster(
    amx: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert resolve_precision(FabricSettings(), "cpu") == precision
    assert resolve_precision(FabricSettings(precision="32-true"), "cpu") == "32-true"


def test_a_batch_system_that_began_something_else_is_told_of_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = FabricSettings(accelerator="cpu", devices=2)
    for name, value in {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "training"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"^fabric: RuntimeError: You set `--ntasks=2` in your SLURM .*") as problem:
        make_fabric(settings)
    assert "\n" not in str(problem.value)
