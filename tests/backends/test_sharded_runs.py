"""Runs whose weights lie in parts on several devices: the same losses, less memory, checkpoints for any number."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK_JOINT, checkpoint_tensors, log_of
from safetensors.torch import load_file

from latsem.backends.errors import UserError
from latsem.backends.launching import MEETING
from latsem.backends.run_folder import RunFolder
from latsem.recipes import load
from latsem.recipes.replaying import replay_file
from latsem.recipes.resuming import resume

PLUGIN = """
import json, os, signal
from pathlib import Path
import torch
from latsem.backends import training
from latsem.backends.loader import ImageFeed
from latsem.backends.sharding.tensors import local
from latsem.backends.training import Trainer

one_step, backward, encode = Trainer._one_step, Trainer._backward, ImageFeed.encode
now = {"step": 0, "rank": 0}


def write(name, value):
    Path(f"{name}-{now['rank']}.json").write_text(json.dumps(value))


def held(tensors):
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in map(local, tensors)}
    return sum(storages.values())


def gradients(trainer):
    "Whether there is a gradient to step by, and whether it is that of both processes."
    found = []
    for parameter in trainer.layout.model.parameters():
        if parameter.grad is None:
            found.append(None)
        elif not hasattr(parameter.grad, "full_tensor"):
            both = [torch.empty_like(parameter.grad) for _ in range(2)]
            torch.distributed.all_gather(both, parameter.grad)
            found.append(bool(torch.equal(*both)))
        else:
            found.append(True)
    return found


def watched_backward(self, batch, draws, places):
    values = backward(self, batch, draws, places)
    if os.environ.get("WATCH") and self.step == 2:
        now.setdefault("gradients", []).append(gradients(self))
    return values


def watched_step(self, batches):
    now.update(step=self.step + 1, rank=self.fabric.global_rank, calls=0)
    values = one_step(self, batches)
    if os.environ.get("WATCH") and self.step == 3:
        states = [x for state in self.optimizer.state.values() for x in state.values()]
        average = self.layout.average_tensors().values()
        write("bytes", held(self.layout.model.parameters()) + held(states) + held(average))
        write("gradients", now["gradients"])
    if os.environ.get("COMPILED") and self.step == 3:
        write("graphs", torch._dynamo.utils.counters["stats"]["unique_graphs"])
    if os.environ.get("STOP_AT") == str(self.step) and now["rank"] == self.fabric.world_size - 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return values


def broken_encode(self, batch):
    encoded, now["calls"] = encode(self, batch), now.get("calls", 0) + 1
    # The first process encodes its own part, and again both when it keeps what failed.
    of_second = now["calls"] == (1 if now["rank"] else 3)
    if of_second and str(now["step"]) in os.environ.get("BREAK_AT", "").split():
        encoded.features[0] = float("nan")
    return encoded


Trainer._one_step, Trainer._backward, ImageFeed.encode = watched_step, watched_backward, broken_encode
"""
Command = Callable[..., subprocess.CompletedProcess[str]]

SMALL = (
    *QUICK_JOINT,
    "train.log_every=1",
    "train.picture_images=2",
    "fabric.accelerator=cpu",
    # What several processes sum in another order is compared closely.
    "fabric.precision=32-true",
    "evaluate.samples=0",
)
TWO = ("fabric.devices=2", "fabric.strategy=fsdp")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "watching.py").write_text(PLUGIN)
    path = tmp_path / "watched.yaml"
    path.write_text("base: pixel_coredi\nplugins: [watching.py]\n")
    return path


def losses(folder: Path) -> torch.Tensor:
    rows = [dict(line) for line in log_of(folder)]
    names = [name for name in rows[0] if name.partition("/")[0] in ("loss", "gradient_norm")]
    return torch.tensor([[row[name] for name in names] for row in rows], dtype=torch.float64)


def assert_alike(one: Path, other: Path) -> None:
    torch.testing.assert_close(losses(one), losses(other), rtol=1e-6, atol=0)
    for file in ("model", "ema", "optimizer"):
        mine, others = checkpoint_tensors(one, file), checkpoint_tensors(other, file)
        assert {name: x.shape for name, x in mine.items()} == {name: x.shape for name, x in others.items()}
        a, b = (torch.cat([x[name].double().flatten() for name in sorted(x)]) for x in (mine, others))
        assert float((a - b).norm()) < 1e-6 * float(a.norm()), file


def test_parts_take_half_the_memory_and_learn_the_same(
    recipe: Path, cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    """With two parts a step, pictures, and scores that both processes make."""
    monkeypatch.setenv("WATCH", "1")
    changes = [*SMALL, "denoiser.depth=2", "train.micro_batch=2", "fabric.devices=2", "evaluate.samples=66"]
    found: dict[str, Any] = {}
    for strategy in ("ddp", "fsdp"):
        done = cli("run", recipe.name, *changes, f"fabric.strategy={strategy}", "--name", strategy)
        assert done.returncode == 0, done.stderr
        found[strategy] = {
            what: [json.loads((tmp_path / f"{what}-{rank}.json").read_text()) for rank in (0, 1)]
            for what in ("bytes", "gradients")
        }
    ddp, fsdp = (tmp_path / "runs" / "watched" / strategy for strategy in found)
    torch.testing.assert_close(losses(ddp), losses(fsdp), rtol=1e-6, atol=0)
    one, other = (dict(log_of(folder)[-1])["score/frechet"] for folder in (ddp, fsdp))
    assert one == pytest.approx(other, rel=1e-3) and one > 0
    assert (fsdp / "samples" / "step-00000004.png").read_bytes() and (fsdp / "done.json").is_file()
    for own, whole in zip(found["fsdp"]["bytes"], found["ddp"]["bytes"], strict=True):
        assert whole > 4 * 4 * 50_000 and own <= 0.6 * whole
    ratio = max(found["fsdp"]["bytes"]) / max(found["ddp"]["bytes"])
    figure(f"fsdp on two processes: {ratio:.3f}x ddp's weights, moments and average a process")
    for part, last in found["ddp"]["gradients"]:
        assert False in part and set(last) == {True}, "exchanged after the last part alone"
    for part, last in found["fsdp"]["gradients"]:
        assert set(part) == {None} and set(last) == {True}, "handed out after the last part alone"


def test_compiled_blocks_learn_the_same_in_parts_and_in_copies(
    recipe: Path, cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real compiler, which each process gives a trial and one graph for all blocks."""
    changes = [*SMALL, "denoiser.depth=2", "fabric.devices=2", "train.picture_images=0"]
    plain = load(recipe, [*changes, "fabric.devices=1"]).run(root=tmp_path / "plain", quiet=True).folder
    monkeypatch.setenv("COMPILED", "1")
    for strategy in ("ddp", "fsdp"):
        done = cli(
            "run", recipe.name, *changes, f"fabric.strategy={strategy}", "fabric.compile=true", "--name", strategy
        )
        assert done.returncode == 0, done.stderr
        assert [json.loads((tmp_path / f"graphs-{rank}.json").read_text()) for rank in (0, 1)] == [2, 2]
        torch.testing.assert_close(losses(plain), losses(tmp_path / "runs" / "watched" / strategy), rtol=1e-4, atol=0)


def test_a_run_goes_on_with_any_number_of_devices_and_any_strategy(
    recipe: Path, cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One device, parts on two, copies on two, one; signals come to the last process."""
    changes = [*SMALL, "train.steps=8"]
    undisturbed = load(recipe, changes).run(root=tmp_path / "whole", quiet=True).folder
    places = (["fabric.devices=1"], TWO, ["fabric.devices=2"])
    for stop, place in zip(("2", "4", "6"), places, strict=True):
        monkeypatch.setenv("STOP_AT", stop)
        stopped = cli("run", recipe.name, *changes, *place)
        assert f"stopped after step {stop}" in stopped.stderr, stopped.stderr
    monkeypatch.delenv("STOP_AT")
    (folder,) = (tmp_path / "runs" / "watched").iterdir()
    assert RunFolder(folder).recipe()["fabric"]["devices"] == 2
    with pytest.raises(
        UserError, match=r"'train.lr=1': a run is resumed as it is; only fabric\.devices, .* may change"
    ):
        resume(folder, places=["train.lr=1"])
    resume(folder, places=["fabric.devices=1"], quiet=True)
    assert RunFolder(folder).recipe()["fabric"]["devices"] == 1
    assert_alike(undisturbed, folder)


def test_steps_that_are_not_finite_are_left_out_in_all_parts_and_replayed(
    recipe: Path, cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the second process has bad numbers; two parts of a weight must not go different ways."""
    monkeypatch.setenv("BREAK_AT", "2 5")
    changes = [*SMALL, *TWO, "train.steps=6", "train.skip_nonfinite=1", "train.checkpoint_every=1", "train.keep=9"]
    failed = cli("run", recipe.name, *changes)
    assert failed.returncode == 1 and "step 5: the loss or the gradient is not finite; step-00000004" in failed.stderr
    (folder,) = (tmp_path / "runs" / "watched").iterdir()
    for file in ("model", "optimizer"):
        before, left_out, after = (checkpoint_tensors(folder, file, step) for step in (1, 2, 3))
        assert all(torch.equal(before[name], left_out[name]) for name in before), file
        assert any(not torch.equal(left_out[name], after[name]) for name in before), file
    (path,) = folder.glob("replay/*")
    kept = {name.removeprefix("model/"): x for name, x in load_file(path).items() if name.startswith("model/")}
    last = checkpoint_tensors(folder, "model", 4)
    assert kept.keys() == last.keys() and all(torch.equal(kept[name], last[name]) for name in last)
    again = replay_file(path)
    assert again.same and again.given == ["batch/1/0/features"]


def test_one_device_may_have_all_the_parts(tmp_path: Path) -> None:
    found = [
        load("pixel_coredi", [*SMALL, f"fabric.strategy={strategy}"]).run(root=tmp_path / strategy, quiet=True)
        for strategy in ("auto", "fsdp")
    ]
    one, other = (run.folder for run in found)
    assert log_of(one) == log_of(other)
    assert torch.equal(*(run.sample(2, seed=1) for run in found)), "what was cut is whole again"
    assert not os.environ.keys() & set(MEETING), "programs that are begun next are no processes of this run"
