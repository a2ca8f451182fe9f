"""What is chosen for a machine."""

from __future__ import annotations

import pytest
import torch

from latsem.backends.hardware import resolve_precision
from latsem.backends.settings import FabricSettings


@pytest.mark.parametrize(("amx", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_cpu_computes_in_bfloat16_only_where_that_is_faster(
    amx: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert resolve_precision(FabricSettings(), "cpu") == precision
    assert resolve_precision(FabricSettings(precision="32-true"), "cpu") == "32-true"
