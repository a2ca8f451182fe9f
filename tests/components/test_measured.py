"""What is measured of a machine is the same for every process that asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from latsem.components.denoisers.attention import auto
from latsem.components.denoisers.attention.auto import AutoAttention
from latsem.components.denoisers.attention.kernel import AttentionShape
from latsem.components.denoisers.attention.settings import AutoAttentionSettings
from latsem.components.denoisers.attention.xformers import XFormers
from latsem.components.measured import ROUNDS, remembered, seconds_of

WHAT = {"what": "something", "threads": 1}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "latsem" / "measured"


def test_what_was_measured_is_measured_once(kept: Path) -> None:
    answers = [{"a": 1.5}, {"a": 2.5}, {"a": 3.5}]
    assert remembered(WHAT, lambda: answers.pop(0)) == remembered(WHAT, lambda: answers.pop(0)) == {"a": 1.5}
    assert remembered({**WHAT, "threads": 2}, lambda: answers.pop(0)) == {"a": 2.5}
    assert [path.suffix for path in kept.iterdir()] == [".json"] * 2


def test_the_first_of_two_processes_counts(kept: Path) -> None:
    def another_was_faster() -> dict[str, float]:
        remembered(WHAT, lambda: {"a": 1.0})
        return {"a": 2.0}

    assert remembered(WHAT, another_was_faster) == {"a": 1.0}
    assert len(list(kept.iterdir())) == 1


@pytest.mark.parametrize("damage", ["", "{", '{"found": 3}', '{"found": {"a": "x"}}'])
def test_a_damaged_record_is_measured_anew(damage: str, kept: Path) -> None:
    remembered(WHAT, lambda: {"a": 1.0})
    record = next(kept.iterdir())
    record.write_text(damage)
    assert remembered(WHAT, lambda: {"a": 2.0}) == {"a": 2.0}
    assert json.loads(record.read_text()) == {"what": WHAT, "found": {"a": 2.0}}


def test_where_nothing_can_be_kept_it_is_measured_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [remembered(WHAT, lambda value=value: {"a": value})["a"] for value in (1.0, 2.0)] == [1.0, 2.0]  # type: ignore[misc]


def test_candidates_are_called_in_turn_and_the_first_calls_do_not_count() -> None:
    calls: list[str] = []
    seconds = seconds_of({name: lambda name=name: calls.append(name) for name in "ab"}, torch.device("cpu"))  # type: ignore[misc]
    assert "".join(calls) == "ab" * (ROUNDS + 1) and seconds.keys() == {"a", "b"}


@pytest.mark.parametrize(("xformers", "chosen"), [(0.5, "xformers"), (2.0, "sdpa")])
def test_auto_takes_the_faster_kernel(
    xformers: float, chosen: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice alone: CUDA's part of it is told in other words here."""
    monkeypatch.setattr(XFormers, "settle", lambda *_: None)
    monkeypatch.setattr(auto, "_seconds", lambda *_: {"sdpa": 1.0, "xformers": xformers})
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "some card")
    kernel = AutoAttention(AutoAttentionSettings())
    kernel.settle(AttentionShape(torch.device("cuda"), torch.bfloat16, 256, 16, 72))
    assert type(kernel.kernel).__name__.lower() == type(kernel.learning).__name__.lower() == chosen
    assert kernel.describe("cuda") == f"{chosen} (auto: xformers has {1 / xformers:.2f}x the speed of sdpa here)"
    assert len(list(kept.iterdir())) == 1


def test_auto_measures_nothing_where_there_is_one_kernel(kept: Path) -> None:
    kernel = AutoAttention(AutoAttentionSettings())
    kernel.settle(AttentionShape(torch.device("cpu"), torch.float32, 16, 2, 8))
    assert kernel.describe("cpu") == "sdpa (auto: nothing is faster on a CPU in float32)" and not kept.exists()


@pytest.mark.parametrize(("products", "chosen"), [(0.1, "products"), (0.9, "sdpa")])
def test_a_cpu_learns_by_products_where_they_are_clearly_faster_and_draws_as_ever(
    products: float, chosen: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "_seconds", lambda *_: {"sdpa": 1.0, "products": products})
    kernel = AutoAttention(AutoAttentionSettings())
    kernel.settle(AttentionShape(torch.device("cpu"), torch.bfloat16, 16, 4, 32))
    assert type(kernel.learning).__name__.lower() == chosen and type(kernel.kernel).__name__ == "SDPA"
    called: list[str] = []
    kernel.learning = lambda *_: called.append("learning")  # type: ignore[assignment]
    kernel.kernel = lambda *_: called.append("drawing")  # type: ignore[assignment]
    learned, drawn = torch.zeros(1, 2, 1, 8, requires_grad=True), torch.zeros(1, 2, 1, 8)
    kernel(learned, drawn, drawn)
    kernel(drawn, drawn, drawn)
    assert called == ["learning", "drawing"] and len(list(kept.iterdir())) == 1


def test_kernels_are_timed_forwards_and_backwards() -> None:
    calls: list[bool] = []

    class Counting(AutoAttention):
        def __call__(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            calls.append(query.requires_grad and query.shape[1:] == (16, 2, 8))
            return super().__call__(query, key, value)

    shape = AttentionShape(torch.device("cpu"), torch.float32, 16, 2, 8)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(auto, "MEASURED_VALUES", {"cpu": 2**10})
        seconds = auto._seconds({"counting": Counting(AutoAttentionSettings())}, shape)
    assert calls == [True] * (ROUNDS + 1) and seconds["counting"] > 0
