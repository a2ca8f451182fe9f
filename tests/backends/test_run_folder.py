"""Who may write into a run folder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from latsem.backends.errors import UserError
from latsem.backends.run_folder import RunFolder, claim_folder, write_json

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
