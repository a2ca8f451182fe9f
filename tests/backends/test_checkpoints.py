"""Checkpoints: exact, whole or set aside, kept by a rule, and written beside the training."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK, QUICK_JOINT, STATE_FILES, checkpoint_tensors, log_of, same_state, torture
from stopped_runs import stopping_at

from latsem.backends.checkpointing import room, writing
from latsem.backends.checkpointing.state import TrainingState
from latsem.backends.checkpointing.store import checkpoints, damage, step_of, verify
from latsem.backends.checkpointing.writing import CheckpointWriter, save_weights
from latsem.backends.errors import Interrupted, RunFailed, UserError
from latsem.backends.evaluation.scoring import Scoring
from latsem.backends.files import write_json
from latsem.backends.guard import FiniteGuard
from latsem.backends.hardware import make_fabric
from latsem.backends.interrupt import StopRequest
from latsem.backends.meter import Meter
from latsem.backends.run_folder import RunFolder
from latsem.backends.settings import FabricSettings
from latsem.backends.training import Trainer
from latsem.recipes import load
from latsem.recipes.assemble import open_run

IMAGE_ONLY = [*QUICK[:-1], "evaluate.samples=0"]


def steps_of(folder: Path) -> list[int]:
    return [step_of(path) for path in checkpoints(RunFolder(folder))]


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


# Going on


@pytest.mark.parametrize("stops", [[3], [1, 5], [2, 3, 7]])
def test_a_line_of_the_log_is_the_same_wherever_its_steps_were_cut(
    stops: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load("pixel_coredi", [*QUICK_JOINT, "train.steps=8", "train.log_every=4", "train.checkpoint_every=3"])
    whole = recipe.run(root=tmp_path / "whole", quiet=True).folder
    for stop in stops:
        with monkeypatch.context() as patch:
            stopping_at(stop, patch)
            with pytest.raises(Interrupted, match=f"stopped after step {stop}"):
                recipe.run(root=tmp_path / "cut", quiet=True)
    cut = recipe.run(root=tmp_path / "cut", quiet=True).folder
    assert same_state(whole, cut) and log_of(whole) == log_of(cut)
    assert [dict(line)["step"] for line in log_of(whole)] == [4, 8]


@pytest.mark.parametrize("step", [3, 4])
def test_scoring_that_was_cut_off_costs_no_training_and_is_done_again(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load("pixel_coredi", [*QUICK_JOINT, "train.checkpoint_every=1", "evaluate.every=3"])
    whole = recipe.run(root=tmp_path / "whole", quiet=True).folder
    original = Scoring.record

    def cut_off(self: Scoring, folder: RunFolder, network: Any, at: int) -> Any:
        if at == step:
            raise KeyboardInterrupt
        return original(self, folder, network, at)

    with monkeypatch.context() as patch:
        patch.setattr(Scoring, "record", cut_off)
        with pytest.raises(KeyboardInterrupt):
            recipe.run(root=tmp_path / "cut", quiet=True)
    trained: list[int] = []
    one_step = Trainer._one_step

    def counted(self: Trainer, batches: Any) -> dict[str, torch.Tensor]:
        values = one_step(self, batches)
        trained.append(self.step)
        return values

    monkeypatch.setattr(Trainer, "_one_step", counted)
    cut = recipe.run(root=tmp_path / "cut", quiet=True).folder
    assert trained == list(range(step + 1, 5))
    assert same_state(whole, cut) and log_of(whole) == log_of(cut)
    assert [dict(line)["step"] for line in log_of(cut)] == [2, 3, 4]


@pytest.mark.parametrize("step", [3, 4])
def test_a_signal_does_not_wait_for_scores_which_are_made_when_the_run_goes_on(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load("pixel_coredi", [*QUICK_JOINT, "evaluate.every=3"])
    whole = recipe.run(root=tmp_path / "whole", quiet=True).folder
    original = Scoring.record

    def asked_to_stop(self: Scoring, folder: RunFolder, network: Any, at: int) -> Any:
        if at == step:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("the signal was waited with")
        return original(self, folder, network, at)

    with monkeypatch.context() as patch:
        patch.setattr(Scoring, "record", asked_to_stop)
        with pytest.raises(Interrupted, match=f"stopped after step {step}; the same command") as stopped:
            recipe.run(root=tmp_path / "cut", quiet=True)
    assert stopped.value.signal == signal.SIGTERM and steps_of(next(tmp_path.glob("cut/*/*")))[-1] == step
    cut = recipe.run(root=tmp_path / "cut", quiet=True).folder
    assert same_state(whole, cut) and log_of(whole) == log_of(cut) and (cut / "done.json").is_file()


def test_a_signal_cuts_off_only_what_may_be() -> None:
    done: list[str] = []

    def cut_off() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        done.append("never")

    with StopRequest() as stop:
        assert stop.let(lambda: done.append("first"))
        assert not stop.let(cut_off)
        assert stop.signal == signal.SIGUSR1 and not stop.let(lambda: done.append("not any more"))
    assert done == ["first"]


def test_a_meter_goes_on_from_what_was_kept() -> None:
    one, other = Meter(), Meter()
    for value in (1.0, 2.5):
        one.add({"loss": torch.tensor(value)})
    other.restore(one.tensors())
    other.add({"loss": torch.tensor(4.0)})
    assert other.means() == {"loss": 2.5} and other.count == 3 and other.timed == 1
    other.clear()
    assert other.means() == {} and other.count == 0


# Damage


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load("pixel_jit", IMAGE_ONLY)
    whole = recipe.run(root=tmp_path / "whole", quiet=True).folder
    folder = recipe.run(root=tmp_path / "damaged", quiet=True).folder
    newest = checkpoints(RunFolder(folder))[-1]
    verify(newest)
    flip(newest / "ema.safetensors", 8 * (newest / "ema.safetensors").stat().st_size // 2)
    with pytest.raises(UserError, match=r"step-00000004: ema.safetensors is damaged; 'latsem run' of the same recipe"):
        open_run(folder).load_newest()
    capsys.readouterr()
    assert recipe.run(root=tmp_path / "damaged").folder == folder
    shown = " ".join(capsys.readouterr().out.split())
    assert "step-00000004: ema.safetensors is damaged; set aside as damaged-step-00000004" in shown
    assert "going on after step 2" in shown
    assert steps_of(folder) == [2, 4] and (folder / "checkpoints" / "damaged-step-00000004").is_dir()
    assert same_state(whole, folder) and log_of(whole) == log_of(folder)


def test_a_run_without_a_whole_checkpoint_is_one_line_and_stays_as_it_is(tmp_path: Path) -> None:
    recipe = load("pixel_jit", IMAGE_ONLY)
    folder = recipe.run(root=tmp_path, quiet=True).folder
    for checkpoint in checkpoints(RunFolder(folder)):
        (checkpoint / "state.json").unlink()
    with pytest.raises(UserError, match=r"no checkpoint is whole \(step-00000004: state.json is missing or damaged; s"):
        recipe.run(root=tmp_path, quiet=True)
    assert steps_of(folder) == [2, 4]


def test_every_kind_of_damage_is_found(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_json(folder.resolved, {"recipe": {"name": "none"}})
    checkpoint = save_weights(folder, 12, torch.nn.Linear(3, 2))
    assert damage(checkpoint) == ""
    for path in sorted(checkpoint.iterdir()):
        content = path.read_bytes()
        for bit in range(0, 8 * len(content), 7):
            flip(path, bit)
            assert damage(checkpoint), f"{path.name}: bit {bit}"
            path.write_bytes(content)
        path.write_bytes(content[:-1])
        assert damage(checkpoint), f"{path.name}: cut off"
        path.unlink()
        assert f"{path.name} is missing" in damage(checkpoint)
        path.write_bytes(content)
    assert damage(checkpoint) == ""
    assert damage(checkpoint.rename(checkpoint.with_name("step-00000013"))) == "state.json is damaged"


@pytest.mark.parametrize(("flips", "cuts"), [(4, 2), torture(200, 50)])
def test_whatever_is_damaged_the_run_ends_as_if_nothing_had_been(
    flips: int, cuts: int, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    recipe, chance = load("pixel_jit", IMAGE_ONLY), random.Random(0)  # noqa: S311
    whole = recipe.run(root=tmp_path / "whole", name="run", quiet=True).folder
    files = sorted(path.name for path in checkpoints(RunFolder(whole))[-1].iterdir())
    for number in range(flips + cuts):
        folder = shutil.copytree(whole, tmp_path / "damaged" / "pixel_jit" / "run")
        victim = checkpoints(RunFolder(folder))[-1] / files[number % len(files)]
        size = victim.stat().st_size
        if number < flips:
            flip(victim, chance.randrange(8 * size))
        else:
            victim.write_bytes(victim.read_bytes()[: chance.randrange(size)])
        assert damage(victim.parent)
        recipe.run(root=tmp_path / "damaged", name="run", quiet=True)
        assert (folder / "checkpoints" / "damaged-step-00000004" / victim.name).is_file()
        assert same_state(whole, folder) and log_of(whole) == log_of(folder)
        shutil.rmtree(folder)
    figure(
        f"{flips} flipped bits and {cuts} truncations of {len(files)} files: all found, all runs went on from before"
    )


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    recipe = load("pixel_jit", IMAGE_ONLY)
    folder = recipe.run(root=tmp_path, quiet=True).folder
    (folder / "done.json").unlink()
    for name in (".step-00000009.77", ".old-step-00000001"):
        shutil.copytree(checkpoints(RunFolder(folder))[0], folder / "checkpoints" / name)
    recipe.run(root=tmp_path, quiet=True)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-00000002", "step-00000004"]


# Keeping


@pytest.mark.parametrize(("keep", "every", "kept"), [(2, 0, [6, 7]), (1, 3, [3, 6, 7]), (3, 2, [2, 4, 5, 6, 7])])
def test_the_newest_stay_and_those_of_round_steps(keep: int, every: int, kept: list[int], tmp_path: Path) -> None:
    changes = ["train.steps=7", "train.checkpoint_every=1", f"train.keep={keep}", f"train.keep_every={every}"]
    folder = load("pixel_jit", [*IMAGE_ONLY, *changes]).run(root=tmp_path, quiet=True).folder
    assert steps_of(folder) == kept
    assert all(path.suffix in {".safetensors", ".json"} for path in (folder / "checkpoints").glob("*/*"))


# Writing


def state_of(module: torch.nn.Module) -> TrainingState:
    guard = FiniteGuard(make_fabric(FabricSettings(accelerator="cpu")), [], 0)
    return TrainingState(module, module.state_dict(), torch.optim.AdamW(module.parameters()), Meter(), guard)


def test_the_optimizers_count_of_steps_goes_to_the_device_where_fused_kernels_read_it(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    state = state_of(module)
    module(torch.ones(1, 2)).sum().backward()
    state.optimizer.step()
    kept = {name: value.clone() for name, value in state._optimizer_tensors().items()}
    elsewhere = state_of(torch.nn.Linear(2, 2, device="meta"))
    elsewhere._load_optimizer(kept, tmp_path)
    for parameter, values in elsewhere.optimizer.state.items():
        assert values.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(value.device == parameter.device for value in values.values())


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, module, go = RunFolder(tmp_path), torch.nn.Linear(2, 2), threading.Event()
    write_json(folder.resolved, {"recipe": {}})
    original, before = writing.write_checkpoint, module.weight.detach().clone()

    def slow(*arguments: Any) -> Path:
        assert go.wait(60)
        return original(*arguments)

    monkeypatch.setattr(writing, "write_checkpoint", slow)
    writer = CheckpointWriter(folder, 2, 0)
    writer.save(1, state_of(module))
    with torch.no_grad():
        module.weight.zero_()
    assert not checkpoints(folder), "it is not there before it is written"
    go.set()
    writer.wait()
    writer.close()
    assert torch.equal(checkpoint_tensors(tmp_path, "model")["weight"], before)


def test_what_goes_wrong_in_writing_is_raised_by_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    write_json(folder.resolved, {"recipe": {}})

    def full(values: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    writer = CheckpointWriter(folder, 2, 0)
    writer.save(1, state_of(torch.nn.Linear(2, 2)))
    writer.wait()
    monkeypatch.setattr(writing, "save_tensors", full)
    writer.save(2, state_of(torch.nn.Linear(2, 2)))
    with pytest.raises(OSError, match="No space left"):
        writer.wait()
    writer.close()
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-00000001"]
    verify(folder.checkpoints / "step-00000001")


def test_a_full_disk_leaves_the_checkpoint_before_it_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load("pixel_jit", IMAGE_ONLY)
    original = writing.save_tensors

    def full(values: Any, path: Path) -> None:
        if "step-00000004" in path.parent.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        original(values, path)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "save_tensors", full)
        with pytest.raises(RunFailed, match=r"model.safetensors: No space left on device; step-00000002 is kept"):
            recipe.run(root=tmp_path / "full", quiet=True)
    folder = recipe.run(root=tmp_path / "full", quiet=True).folder
    assert same_state(recipe.run(root=tmp_path / "whole", quiet=True).folder, folder)


def test_a_disk_that_is_too_small_is_said_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load("pixel_jit", [*IMAGE_ONLY, "train.steps=9", "train.checkpoint_every=1", "train.keep=2"])
    folder = recipe.run(root=tmp_path / "there", quiet=True).folder
    newest = checkpoints(RunFolder(folder))[-1]
    tensors = sum((newest / f"{file}.safetensors").stat().st_size for file in STATE_FILES)
    monkeypatch.setattr(room, "free_disk", lambda path: 3 * tensors)
    recipe.run(root=tmp_path / "enough", quiet=True)
    monkeypatch.setattr(room, "free_disk", lambda path: 2.8 * tensors)
    with pytest.raises(UserError, match=r"3 more checkpoints take .*B and the disk has .*B: make room, keep fewer"):
        recipe.run(root=tmp_path / "small", quiet=True)
    assert not list(tmp_path.glob("small/*/*"))


def test_a_checkpoint_that_the_system_refuses_is_one_line(tmp_path: Path) -> None:
    """A real write that fails half-way: files of this process may not grow beyond 60,000 bytes."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
    arguments = ["latsem", "run", "pixel_jit", *QUICK]
    code = f"{limit}import sys; sys.argv = {arguments!r}\nfrom latsem.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    (run,) = (tmp_path / "runs" / "pixel_jit").iterdir()
    assert done.returncode == 1, done.stderr
    assert done.stderr.endswith(".safetensors: File too large; nothing is kept yet\n"), done.stderr
    assert len(done.stderr.splitlines()) == 1 and not list(run.glob("checkpoints/*"))
