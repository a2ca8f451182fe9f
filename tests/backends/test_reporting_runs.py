from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import QUICK, QUICK_JOINT
from report_page import Page, rows_of, safe_page

from latsem.backends.errors import Interrupted
from latsem.backends.training import Trainer
from latsem.recipes import load
from latsem.recipes.evaluating import evaluate_run


def states(folder: Path) -> Iterator[tuple[str | None, str | None]]:
    for values in Page(folder / "report.html").having("data-step"):
        if "data-finished" in values:
            yield values["data-step"], values["data-finished"]


def test_a_run_reports_while_it_goes_on_when_it_stops_and_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load("pixel_coredi", [*QUICK_JOINT, "train.picture_every=1", "train.log_every=1"])
    seen: list[tuple[str | None, str | None]] = []
    original = Trainer._one_step

    def watched(self: Trainer, batches: object) -> object:
        if self.step:
            seen.extend(states(self.folder.path))
        values = original(self, batches)  # type: ignore[arg-type]
        if self.step == 3:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)
        return values

    monkeypatch.setattr(Trainer, "_one_step", watched)
    with pytest.raises(Interrupted):
        recipe.run(root=tmp_path, quiet=True)
    monkeypatch.undo()
    (folder,) = (tmp_path / "pixel_coredi").iterdir()
    assert seen == [("1", "false"), ("2", "false")] and list(states(folder)) == [("3", "false")]
    assert "goes on with it" in Page(folder / "report.html").text

    recipe.run(root=tmp_path)
    assert f"report     {folder}/report.html" in capsys.readouterr().out
    assert list(states(folder)) == [("4", "true")]
    (record,) = folder.glob("evaluation/step-00000004-*.json")
    scored = json.loads(record.read_text())["scores"]
    before = rows_of(safe_page(folder / "report.html"))
    assert {metric: value for _, _, metric, value in before}["frechet"] == str(scored["frechet"])
    evaluate_run(folder, ["evaluate.guided=true", "guidance.scale=3"])
    assert "report     " in capsys.readouterr().out
    after = rows_of(safe_page(folder / "report.html"))
    assert set(before) < set(after) and len({digest for digest, *_ in after}) == 2


def test_a_report_is_made_for_a_run_of_before_there_were_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load("pixel_jit", QUICK)
    report = recipe.run(root=tmp_path, quiet=True).folder / "report.html"
    text = report.read_text()
    report.unlink()
    recipe.run(root=tmp_path, quiet=True)
    assert report.read_text() == text
    report.unlink()
    (report / "in the way").mkdir(parents=True)
    capsys.readouterr()
    assert recipe.run(root=tmp_path).scores
    assert "report.html was not written" in capsys.readouterr().out
