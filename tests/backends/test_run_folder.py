"""Who may write into a run folder."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK

from latsem.backends.errors import RunFailed, UserError
from latsem.backends.files import write_atomically, write_json
from latsem.backends.run_folder import RunFolder, claim_folder
from latsem.backends.training import Trainer
from latsem.recipes import load

ONE, OTHER = {"train": {"seed": 0}}, {"train": {"seed": 1}}


def test_recipes_started_in_the_same_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "2026-01-01_00-00-00")
    first, second, again = (claim_folder(tmp_path, "pixel_jit", recipe, None).path for recipe in (ONE, OTHER, ONE))
    assert first == again != second
    assert list(tmp_path.iterdir()) == []


def test_a_folder_serves_one_process_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with (
        RunFolder(folder).occupied(ONE),
        pytest.raises(UserError, match="another process is training this run"),
        RunFolder(folder).occupied(ONE),
    ):
        pass
    with RunFolder(folder).occupied(ONE):
        pass


def test_a_folder_taken_meanwhile_by_another_recipe_is_refused(tmp_path: Path) -> None:
    folder = claim_folder(tmp_path, "pixel_jit", ONE, "mine")
    with folder.occupied(OTHER):
        assert claim_folder(tmp_path, "pixel_jit", ONE, "mine").path == folder.path
        write_json(folder.resolved, {"recipe": OTHER})
    with pytest.raises(UserError, match=r"train.seed: 1 -> 0"), folder.occupied(ONE):
        pass


def test_a_run_is_the_same_wherever_it_is_computed_but_not_in_another_precision(tmp_path: Path) -> None:
    def recipe(**fabric: object) -> dict[str, object]:
        return {**ONE, "fabric": {"devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "auto"} | fabric}

    begun, elsewhere = recipe(), recipe(devices=8, num_nodes=2, strategy="fsdp")
    folder = claim_folder(tmp_path, "pixel_jit", begun, None)
    write_json(folder.resolved, {"recipe": begun, "num_classes": 5})
    assert claim_folder(tmp_path, "pixel_jit", elsewhere, None).path == folder.path
    other = recipe(devices=8, precision="32-true")
    assert claim_folder(tmp_path, "pixel_jit", other, None).path != folder.path
    with folder.occupied(elsewhere):
        folder.note_place(elsewhere)
    assert folder.recipe() == elsewhere and folder.num_classes() == 5
    with (
        pytest.raises(UserError, match=r'another recipe \(fabric\.precision: "auto" -> "32-true"\)'),
        folder.occupied(other),
    ):
        pass


def test_a_torn_recipe_of_a_sibling_is_left_out_with_a_warning(tmp_path: Path) -> None:
    mine = claim_folder(tmp_path, "pixel_jit", ONE, "a")
    write_json(mine.resolved, {"recipe": ONE})
    for name, text in {"b": "", "c": '{"recipe": {"train"', "d": "[]"}.items():
        write_atomically(tmp_path / "pixel_jit" / name / "resolved.json", text)
    with pytest.warns(UserWarning, match="left out") as warned:
        assert claim_folder(tmp_path, "pixel_jit", ONE, None).path == mine.path
    assert len(warned) == 3 and all("resolved.json: damaged" in str(each.message) for each in warned)
    with pytest.raises(UserError, match="b/resolved.json: damaged"):
        claim_folder(tmp_path, "pixel_jit", ONE, "b")


def test_a_holder_notices_that_its_folder_is_gone_or_is_that_of_another(tmp_path: Path) -> None:
    folder, other = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    folder.require_held()
    with folder.occupied(ONE):
        folder.require_held()
        shutil.rmtree(folder.path)
        with pytest.raises(RunFailed, match="was removed or renamed during training; nothing more is written"):
            folder.require_held()
        assert not folder.path.exists()
        with other.occupied(OTHER):
            other.require_held()
            with pytest.raises(RunFailed, match="replaced by that of another run"):
                folder.require_held()
        with other.occupied(OTHER):
            pass
    assert {path.name for path in folder.path.iterdir()} == {".lock"}


@pytest.mark.parametrize("again", [False, True])
def test_a_run_whose_folder_was_removed_writes_nothing_more(
    again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another run has a folder of the same name by then."""
    original, folder = Trainer._one_step, RunFolder(tmp_path / "pixel_jit" / "run")
    left = tmp_path / "other"

    def step(self: Trainer, batches: Any) -> Any:
        values = original(self, batches)
        if self.step == 3:
            # At once, while a checkpoint may be written in it.
            folder.path.rename(tmp_path / "removed")
            if again:
                shutil.copytree(left, folder.path)
        return values

    recipe = load("pixel_jit", [*QUICK, "train.steps=9", "evaluate.samples=0", "train.picture_every=4"])
    with RunFolder(left).occupied(OTHER):
        write_atomically(left / ".holder", "somebody else")
        monkeypatch.setattr(Trainer, "_one_step", step)
        with pytest.raises(RunFailed, match="nothing more is written there"):
            recipe.run(root=tmp_path, name="run", quiet=True)
    found = {path.name for path in folder.path.rglob("*")}
    assert found == ({".lock", ".holder"} if again else set())
