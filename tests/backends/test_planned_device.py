"""A run is planned for devices that are not here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import QUICK

from latsem.backends.errors import UserError
from latsem.backends.planned_device import MEMORY, USABLE, PlannedDevice, parse_device
from latsem.recipes import load
from latsem.recipes.checking import footprint
from latsem.recipes.reporting import numbers, report_rows, shortages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h100", PlannedDevice("H100", "cuda", int(USABLE * 80e9))),
        ("h100:8", PlannedDevice("H100", "cuda", int(USABLE * 80e9), count=8)),
        ("8xH100", PlannedDevice("H100", "cuda", int(USABLE * 80e9), count=8)),
        ("a100-40:4", PlannedDevice("A100-40", "cuda", int(USABLE * 40e9), count=4)),
        ("a100:4:40GB", PlannedDevice("A100", "cuda", 40 * 10**9, count=4)),
        ("8x80GB", PlannedDevice("GPU of 80GB", "cuda", 80 * 10**9, count=8)),
        ("24 gb", PlannedDevice("GPU of 24GB", "cuda", 24 * 10**9)),
        ("79.5GiB:2", PlannedDevice("GPU of 79.5GIB", "cuda", int(79.5 * 2**30), count=2)),
        ("mi300x:8:192GB", PlannedDevice("MI300X", "cuda", 192 * 10**9, count=8)),
        ("v100:2", PlannedDevice("V100", "cuda", int(USABLE * 16e9), bf16=False, count=2)),
        ("cpu", PlannedDevice("CPU", "cpu", bf16=None)),
        ("cpu:64GB", PlannedDevice("CPU", "cpu", 64 * 10**9, bf16=None)),
    ],
)
def test_a_device_is_written_by_its_name_or_its_memory(text: str, expected: PlannedDevice) -> None:
    assert parse_device(text) == expected


@pytest.mark.parametrize(
    "text", ["", "8x", "x8", "0xh100", "h100:0", "8x80GB:2", "2xh100:2", "h100:8:", "8x80", "-1", "1.2.3gb"]
)
def test_anything_else_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_device(text)
    (line,) = refused.value.problems
    assert line.startswith(f"--device: '{text}': ") and "\n" not in line


def test_an_unknown_name_needs_its_memory() -> None:
    with pytest.raises(UserError, match=r"'h10': no such device, did you mean 'h100'\? \(known: t4.*8x80GB\)"):
        parse_device("h10")
    assert all(parse_device(name).memory for name in MEMORY)


def test_a_run_is_planned_for_a_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    changes = [*QUICK, "denoiser.width=256"]
    unknown = footprint(load("pixel_jit", [*changes, "fabric.accelerator=cuda", "fabric.devices=8"]))
    assert (unknown.available, unknown.here, unknown.plan.devices) == (None, False, 8)
    # What a process takes of main memory is not of a GPU's.
    assert (unknown.baseline, unknown.data, unknown.copy, unknown.allocator) == (0, 0, 0, 0)
    assert "its memory is not known: --device h100:8" in dict(report_rows(load("pixel_jit"), unknown))["peak"]
    assert not shortages(unknown)
    for extra, missing in ((1, 0), (0, 0), (-1, 1)):
        found = replace(unknown, available=unknown.peak + extra)
        assert len(shortages(found)) == missing
        assert numbers(load("pixel_jit"), found)["does_not_fit"] == shortages(found)

    planned = parse_device("v100:8")
    recipe = load("pixel_jit", [*changes, *planned.changes()])
    told = footprint(recipe, planned)
    assert (told.device, told.plan.devices, told.precision, told.available) == ("V100", 8, "32-true", planned.memory)
    assert footprint(recipe, parse_device("h100:8")).precision == "bf16-mixed"
    # The disks of this machine are not that one's.
    full = replace(told, disk=replace(told.disk, run_free=0, cache_free=0))
    assert not shortages(full) and len(shortages(replace(full, here=True, available=told.peak))) == 2


def test_a_cpu_of_another_machine_shares_its_memory_among_processes() -> None:
    planned = parse_device("cpu:64GB")
    found = footprint(load("pixel_jit", [*QUICK, *planned.changes(), "fabric.devices=2"]), planned)
    assert found.available == 64 * 10**9 and found.baseline > 0 and not found.here
    assert shortages(replace(found, available=2 * found.peak)) == []
    assert len(shortages(replace(found, available=2 * found.peak - 1))) == 1
