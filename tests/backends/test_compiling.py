"""When blocks are compiled, what is said of it, and that runs really are."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK_JOINT, checkpoint_tensors, counted_graphs, log_of, same_tensors
from stopped_runs import stop_after

from latsem.backends import compiling
from latsem.backends.compiling import WORTHWHILE, Choice, choose
from latsem.backends.errors import UserError
from latsem.backends.settings import FabricSettings
from latsem.recipes import load
from latsem.recipes.assemble import assemble, open_run
from latsem.recipes.benching import Bench, load_subjects
from latsem.recipes.checking import footprint

RUN = (*QUICK_JOINT, "fabric.accelerator=cpu")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Let blocks be given to a compiler that only notes whether gradients were asked for."""
    found, note = counted_graphs()
    plain = compiling.compile_blocks
    for user in ("training", "assembly"):
        monkeypatch.setattr(f"latsem.backends.{user}.compile_blocks", partial(plain, backend=note))
    monkeypatch.setattr(compiling, "problem_here", lambda _: "")
    yield found
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("demand", "device", "operations", "said"),
    [
        ("auto", "cuda", 0, "compiled (auto)"),
        ("auto", "cpu", WORTHWHILE, "compiled (auto)"),
        ("auto", "cpu", WORTHWHILE - 1e9, "as written (auto: too little is trained for compiling to pay on a CPU)"),
        (True, "cpu", 0, "compiled (as the recipe says)"),
        (False, "cuda", WORTHWHILE, "as written (as the recipe says)"),
    ],
)
def test_what_is_compiled(
    demand: Any, device: str, operations: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "problem_here", lambda _: "")
    found = choose(FabricSettings(compile=demand), device, operations)
    assert found == Choice(said.startswith("compiled"), said)


def test_without_a_compiler_auto_goes_on_and_says_why_and_a_demand_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "problem_here", lambda _: "nothing compiles")
    assert choose(FabricSettings(), "cuda", 0) == Choice(False, "as written (auto: nothing compiles)")
    with pytest.raises(UserError, match="fabric.compile: nothing compiles; install what is missing, or say"):
        choose(FabricSettings(compile=True), "cpu", 0)
    assert not choose(FabricSettings(compile=False), "cpu", 0).on


def test_a_machine_without_a_compiler_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("PATH", str(tmp_path))
    ended = cli("run", "pixel_coredi", *RUN, "fabric.compile=true")
    assert ended.returncode == 2 and not ended.stdout
    [line] = ended.stderr.splitlines()
    assert line.startswith("fabric.compile: torch.compile does not work here: ") and "C++ compiler" in line


@pytest.mark.parametrize("recipe", ["pixel_coredi", "latent_redi", "pixel_jit"])
def test_operations_are_about_those_that_are_counted(recipe: str) -> None:
    loaded = load(recipe, ["train.steps=50"])
    predicted, images = footprint(loaded), 50 * loaded.settings.train.batch_size
    assert assemble(loaded).operations == pytest.approx(images * predicted.arithmetic.training_flops, rel=0.25)


def test_a_benchmark_times_compiled_blocks(graphs: list[bool]) -> None:
    """What counts a step's operations comes before its first call: a compiler could give up there."""
    for what, learns in (("train", True), ("sample", False)):
        [subject] = load_subjects("pixel_coredi", [*RUN, "fabric.compile=true"], Bench(what, 1, 1))
        subject.call()
        assert subject.blocks == "compiled (as the recipe says)" and graphs.count(learns) == 1


def test_a_prediction_compiles_nothing(graphs: list[bool]) -> None:
    compiled, plain = (footprint(load("pixel_coredi", [*RUN, f"fabric.compile={on}"])) for on in ("true", "false"))
    assert compiled.memory == plain.memory and not graphs


def test_a_compiled_run_learns_the_same_goes_on_exactly_and_is_drawn_from_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real compiler."""
    torch._dynamo.reset()
    changes = [*RUN, "fabric.compile=true"]
    plain = load("pixel_coredi", RUN).run(root=tmp_path, name="plain")
    whole = load("pixel_coredi", changes).run(root=tmp_path, name="whole")
    for one, other in zip(log_of(plain.folder), log_of(whole.folder), strict=True):
        assert dict(one)["loss"] == pytest.approx(dict(other)["loss"], rel=1e-4)
    assert not same_tensors(checkpoint_tensors(plain.folder, "ema"), checkpoint_tensors(whole.folder, "ema"))

    stop_after(monkeypatch, 2, lambda: load("pixel_coredi", changes).run(root=tmp_path, name="parts"))
    parts = load("pixel_coredi", changes).run(root=tmp_path, name="parts")
    assert log_of(whole.folder) == log_of(parts.folder)
    assert same_tensors(checkpoint_tensors(whole.folder, "ema"), checkpoint_tensors(parts.folder, "ema"))

    opened = open_run(whole.folder)
    opened.load_newest()
    drawn = opened.parts.generator(opened.device, opened.precision).images(range(5), 3)
    assert torch.equal(drawn, whole.sample(5, seed=3)) and torch.equal(drawn[:2], whole.sample(2, seed=3))
