"""Two words: a checkpoint is weights to start from, to resume is to go on exactly."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from conftest import QUICK, QUICK_JOINT, checkpoint_tensors, log_of, same_tensors

from latsem.backends.checkpointing.store import checkpoints
from latsem.backends.errors import UserError
from latsem.backends.files import write_json
from latsem.backends.run_folder import RunFolder
from latsem.recipes import load
from latsem.recipes.resuming import resume

LONGER = [*QUICK_JOINT, "train.steps=8"]


def test_a_run_that_is_extended_is_the_run_of_as_many_steps(tmp_path: Path) -> None:
    short = load("pixel_coredi", QUICK_JOINT).run(root=tmp_path / "a", quiet=True).folder
    assert (short / "done.json").exists()
    longer = resume(short, ["steps=8"], quiet=True).folder
    shown = json.loads((short / "resolved.json").read_text())["resolved"]
    assert shown["steps"].startswith("8 = ") and "8 = " in (short / "report.html").read_text()
    assert "train.steps=8" in shown["changed"] and "train.steps=4" not in shown["changed"]
    whole = load("pixel_coredi", LONGER).run(root=tmp_path / "b", quiet=True).folder
    assert longer == short and json.loads((short / "done.json").read_text())["step"] == 8
    for file in ("model", "ema", "optimizer", "meter"):
        assert same_tensors(checkpoint_tensors(longer, file), checkpoint_tensors(whole, file)), file
    # Where the shorter run ended it was scored; nothing else differs.
    ours, theirs = ({dict(line)["step"]: dict(line) for line in log_of(run)} for run in (longer, whole))
    assert ours.keys() == theirs.keys() and ours[4].items() >= theirs[4].items()
    assert {step: line for step, line in ours.items() if step != 4} == {k: v for k, v in theirs.items() if k != 4}
    # From now on it is that recipe's run, and no longer the shorter one's.
    assert load("pixel_coredi", LONGER).run(root=tmp_path / "a", quiet=True).folder == short
    assert load("pixel_coredi", QUICK_JOINT).run(root=tmp_path / "a", quiet=True).folder != short


def test_how_many_processes_read_makes_no_other_run(tmp_path: Path) -> None:
    recipe = load("pixel_jit", [*QUICK, "evaluate.samples=0"])
    folder = recipe.run(root=tmp_path / "a", quiet=True).folder
    with_readers = load("pixel_jit", [*QUICK, "evaluate.samples=0", "train.workers=1"])
    assert with_readers.run(root=tmp_path / "a", quiet=True).folder == folder
    resume(folder, ["steps=6"], ["train.workers=1"], quiet=True)
    assert json.loads((folder / "resolved.json").read_text())["recipe"]["train"]["workers"] == 1
    whole = load("pixel_jit", [*QUICK, "evaluate.samples=0", "train.steps=6"]).run(root=tmp_path / "b", quiet=True)
    assert same_tensors(checkpoint_tensors(folder, "model"), checkpoint_tensors(whole.folder, "model"))


def test_a_run_is_resumed_without_its_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load("pixel_jit", QUICK)
    folder = recipe.run(root=tmp_path, name="mine", quiet=True).folder
    before = checkpoint_tensors(folder, "model")
    (folder / "done.json").unlink()
    for checkpoint in checkpoints(RunFolder(folder))[1:]:
        checkpoint.rename(tmp_path / checkpoint.name)
    resumed = resume(folder).folder
    assert "going on after step 2" in capsys.readouterr().out
    assert resumed == folder and same_tensors(checkpoint_tensors(folder, "model"), before)
    resume(folder)
    assert "done already" in capsys.readouterr().out


def test_a_run_of_an_older_latsem_is_known_by_the_values_that_it_has(tmp_path: Path) -> None:
    """Settings that came later have their defaults there."""
    recipe = load("pixel_jit", [*QUICK[:-1], "evaluate.samples=0"])
    folder = recipe.run(root=tmp_path, quiet=True).folder
    written = json.loads((folder / "resolved.json").read_text())
    for key in ("keep_every", "skip_nonfinite", "checkpoint"):
        del written["recipe"]["train"][key]
    (folder / "resolved.json").write_text(json.dumps(written))
    (folder / "done.json").unlink()
    (folder / "checkpoints" / "step-00000004").rename(tmp_path / "newest")
    assert recipe.run(root=tmp_path, quiet=True).folder == folder and (folder / "done.json").is_file()
    assert recipe.run(root=tmp_path, name=folder.name, quiet=True).folder == folder
    assert resume(folder, ["steps=6"], quiet=True).folder == folder
    other = load("pixel_jit", [*QUICK[:-1], "evaluate.samples=0", "train.steps=6", "train.keep_every=2"])
    with pytest.raises(UserError, match=r"another recipe \(train.keep_every: 0 -> 2\)"):
        other.run(root=tmp_path, name=folder.name, quiet=True)


@pytest.mark.parametrize(
    ("extension", "message"),
    [
        (["steps=3"], "steps=3: the run has 4 steps already; it can only be trained longer"),
        (["lr=1"], "'lr=1': a run is extended by more steps, as in steps=4000"),
        (["steps=many"], "'steps=many': a run is extended by more steps"),
        (["steps=8", "steps=9"], "'steps=8 steps=9': a run is extended by more steps"),
        (["steps=true"], "a run is extended by more steps"),
    ],
)
def test_what_is_no_extension_is_one_line(extension: list[str], message: str, tmp_path: Path) -> None:
    folder = load("pixel_jit", QUICK).run(root=tmp_path, quiet=True).folder
    before = (folder / "resolved.json").read_bytes()
    with pytest.raises(UserError, match=message):
        resume(folder, extension)
    assert (folder / "resolved.json").read_bytes() == before and (folder / "done.json").exists()


def test_a_run_starts_from_weights_of_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = load("pixel_coredi", QUICK_JOINT).run(root=tmp_path, quiet=True).folder
    start = checkpoints(RunFolder(first))[0]
    recipe = load(
        "pixel_coredi",
        [*QUICK_JOINT, "train.steps=1", "train.lr=1e-30", "projection.lr=1e-30", f"train.checkpoint={start}"],
    )
    second = recipe.run(root=tmp_path).folder
    assert "starting from the moving average of" in " ".join(capsys.readouterr().out.split())
    began, given = checkpoint_tensors(second, "model"), checkpoint_tensors(first, "ema", 2)
    learned = [name for name in given if given[name].is_floating_point() and "running" not in name]
    assert second != first and learned
    assert all(torch.allclose(began[name], given[name], atol=1e-6) for name in learned)
    # A run stands for its newest checkpoint.
    again = load("pixel_coredi", [*QUICK_JOINT, "train.steps=1", f"train.checkpoint={first}"])
    assert not same_tensors(checkpoint_tensors(again.run(root=tmp_path, quiet=True).folder, "model"), began)


def test_weights_to_start_from_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train.checkpoint: there is no run or checkpoint .*nowhere"):
        load("pixel_jit", [*QUICK, f"train.checkpoint={tmp_path}/nowhere"])
    with pytest.raises(UserError, match="no checkpoint yet"):
        load("pixel_jit", [*QUICK, f"train.checkpoint={tmp_path}"]).run(root=tmp_path, quiet=True)
    other = load("pixel_jit", QUICK).run(root=tmp_path, quiet=True).folder
    deeper = load("pixel_jit", [*QUICK, "denoiser.depth=2", f"train.checkpoint={other}"])
    with pytest.raises(UserError, match="these weights belong to another model"):
        deeper.run(root=tmp_path, quiet=True)


def test_the_command_goes_on_elsewhere_and_says_what_else_may_not_change(
    cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    quick = [*QUICK, "evaluate.samples=0", "train.picture_images=0"]
    assert cli("run", "pixel_jit", *quick, "--name", "run").returncode == 0
    folder = "runs/pixel_jit/run"
    on = cli("run", "--resume", folder, "fabric.devices=1", "fabric.num_nodes=1", "--extend", "steps=6", "--profile")
    assert on.returncode == 0 and "going on after step 4" in on.stdout, on.stderr
    assert [path.name for path in (tmp_path / folder / "profile").iterdir()] == ["steps-00000005-00000006.json.gz"]
    for change, said in (("train.lr=3", "'train.lr=3': a run is resumed as it is"), ("pixel_jit", "no recipe")):
        refused = cli("run", "--resume", folder, change)
        assert refused.returncode == 2 and said in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_a_run_that_cannot_be_loaded_is_not_extended(tmp_path: Path) -> None:
    folder = load("pixel_jit", [*QUICK, "evaluate.samples=0"]).run(root=tmp_path, quiet=True).folder
    newest = checkpoints(RunFolder(folder))[-1]
    state = json.loads((newest / "state.json").read_text())
    (newest / "optimizer.safetensors").unlink()
    del state["sha256"]["optimizer.safetensors"]
    write_json(newest / "state.json", state)
    before = {path: path.read_bytes() for path in folder.glob("*.json")}
    with pytest.raises(UserError, match="holds weights to sample with and no training state"):
        resume(folder, ["steps=8"], quiet=True)
    assert {path: path.read_bytes() for path in folder.glob("*.json")} == before


def test_a_checkpoint_of_before_there_was_a_guard_is_resumed(tmp_path: Path) -> None:
    folder = load("pixel_jit", [*QUICK, "evaluate.samples=0"]).run(root=tmp_path, quiet=True).folder
    newest = checkpoints(RunFolder(folder))[-1]
    state = json.loads((newest / "state.json").read_text())
    for name in ("guard.safetensors", "meter.safetensors"):
        (newest / name).unlink()
        del state["sha256"][name]
    write_json(newest / "state.json", state)
    for name in ("environment.json", "recipe.yaml", "data.json"):
        (folder / name).unlink()
    resume(folder, ["steps=8"], quiet=True)
    assert json.loads((folder / "done.json").read_text())["step"] == 8


def test_a_run_of_another_version_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "pixel_jit" / "run")
    values = load("pixel_jit", QUICK).resolved()
    write_json(folder.resolved, {"recipe": {**values, "invented": 3}, "num_classes": 5})
    with pytest.raises(UserError) as refused:
        resume(folder.path)
    assert "was begun by" not in str(refused.value)
    write_json(folder.path / "environment.json", {"versions": {"latsem": "9.7"}})
    with pytest.raises(UserError, match=r"invented: unknown key") as refused:
        resume(folder.path)
    assert f"was begun by latsem 9.7, and this is {version('latsem')}" in refused.value.problems[-1]
