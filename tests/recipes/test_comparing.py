"""Comparisons: runs are found rather than repeated, unlike scores are refused, tables say what the runs' files say."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from conftest import QUICK, QUICK_JOINT

from latsem.backends.errors import UserError
from latsem.backends.evaluation.records import scores_of
from latsem.backends.reporting.comparison_data import Comparison, read_comparison
from latsem.backends.run_folder import RunFolder
from latsem.backends.session import Session
from latsem.recipes import load
from latsem.recipes.comparing.command import compare, study_of
from latsem.recipes.comparing.comparison import Comparing
from latsem.recipes.comparing.curves import mean_curve, step_reaching
from latsem.recipes.comparing.study import find_study, parse_sweeps, read_study
from latsem.recipes.layers import shipped_studies

CHANGES = [*QUICK, "evaluate.metrics=[frechet, precision_recall]"]


def compared(root: Path, things: list[str], **how: object) -> Comparison:
    compare(things, root=root, name="it", **how)  # type: ignore[arg-type]
    return read_comparison(root / "comparisons" / "it")


def test_curves() -> None:
    slow, fast = {100: 40.0, 200: 30.0, 400: 20.0}, {100: 30.0, 200: 15.0, 400: 10.0}
    assert mean_curve([slow, fast]) == {100: 35.0, 200: 22.5, 400: 15.0}
    assert step_reaching(slow, 20.0) == 400 and step_reaching(slow, 45.0) == 100
    assert step_reaching(fast, 20.0) == pytest.approx(100 + 100 * 10 / 15)
    assert step_reaching(slow, 5.0) is None
    assert step_reaching({100: 0.1, 200: 0.3}, 0.2, "higher") == pytest.approx(150)


def test_a_comparison_trains_what_is_missing_and_says_what_the_files_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ["pixel_jit", "pixel_coredi projection.fit_images=64"]
    how = {"seeds": [1, 2], "changes": CHANGES, "sweeps": ["sampler.steps=1,3"]}
    made = compared(tmp_path, rows, **how)
    assert len(list(tmp_path.glob("pixel_*/*/done.json"))) == 4
    (table,) = made.tables
    assert [row.name for row in table.rows] == rows and [row.seeds for row in table.rows] == [[1, 2], [1, 2]]
    first, second = table.rows
    finals = [_final(Path(run)) for run in second.runs]
    assert second.final["frechet"].values == finals
    assert second.final["frechet"].mean == pytest.approx(statistics.fmean(finals))
    assert second.final["frechet"].spread == pytest.approx(statistics.stdev(finals))
    assert second.ratio == pytest.approx(statistics.fmean(finals) / first.final["frechet"].mean)
    assert first.ratio == 1 and set(first.curves[0]) == {2, 4}
    assert list(table.metrics) == ["frechet", "precision", "recall"]
    (sweep,) = table.sweeps
    assert [type(value) for value in sweep.values] == [int, int]
    assert sweep.key == "sampler.steps" and sweep.values == [1, 3]
    assert sweep.rows[0].scores[0]["frechet"].values != sweep.rows[0].scores[1]["frechet"].values
    folder = tmp_path / "comparisons" / "it"
    assert (folder / "report.html").is_file() and len(table.grids) == 2
    assert all((folder / grid.picture).is_file() for grid in table.grids)

    def never(self: Session) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Session, "run", never)
    again = compared(tmp_path, rows, **how)
    assert again.tables == made.tables
    # Other scores of the same weights need no other run.
    other = compared(tmp_path, rows, **{**how, "sweeps": [], "changes": [*CHANGES, "evaluate.seed=5"]})
    assert other.tables[0].rows[0].runs == first.runs and other.tables[0].hash != table.hash
    with pytest.raises(AssertionError, match="trained again"):
        compared(tmp_path, rows, **{**how, "changes": [*CHANGES, "train.lr=0.1"]})


def _final(run: Path) -> float:
    records = [record for record in scores_of(RunFolder(run)) if record["protocol"]["sampler"]["steps"] == 2]
    assert [record["step"] for record in records] == [2, 4]
    return float(records[-1]["scores"]["frechet"])


def test_run_folders_are_compared_and_their_seeds_put_together(tmp_path: Path) -> None:
    runs = [load("pixel_jit", [*CHANGES, f"train.seed={seed}"]).run(root=tmp_path, quiet=True) for seed in (0, 1)]
    other = load("pixel_jit", [*CHANGES, "train.lr=0.01"]).run(root=tmp_path, quiet=True)
    folders = [str(run.folder) for run in (*runs, other)]
    made = compared(tmp_path, folders)
    names = [f"pixel_jit/{run.folder.name}" for run in (runs[0], other)]
    assert [row.name for row in made.tables[0].rows] == names
    assert [row.seeds for row in made.tables[0].rows] == [[0, 1], [0]]
    assert made.tables[0].rows[0].final["frechet"].values == [run.scores["frechet"] for run in runs]
    with pytest.raises(UserError, match="train.ema=0.5 changes what is trained"):
        compared(tmp_path, folders, sweeps=["train.ema=0.5,0.9"])
    with pytest.raises(UserError, match="train.steps=9: the run is trained already"):
        compared(tmp_path, folders, changes=["train.steps=9"])
    with pytest.raises(UserError, match="--seeds and --first-seed are of recipes"):
        compared(tmp_path, folders, seeds=[3])
    # None of these took away what was there.
    assert read_comparison(tmp_path / "comparisons" / "it").tables == made.tables
    with pytest.raises(UserError, match="neither checkpoint nor scores at step 3"):
        study = tmp_path / "study.yaml"
        study.write_text(f"steps: [3]\ntables:\n  - rows: {{a: {folders[0]}}}\n")
        compare([str(study)], root=tmp_path)


def test_scores_of_different_protocols_are_refused(tmp_path: Path) -> None:
    folders = [
        str(load("pixel_jit", [*CHANGES, f"train.seed={seed}", *more]).run(root=tmp_path, quiet=True).folder)
        for seed, more in ((0, []), (1, ["sampler.steps=3", "train.lr=0.01"]))
    ]
    with pytest.raises(UserError) as caught:
        compared(tmp_path, folders)
    assert "are scored differently, which is not to be compared: sampler.steps: 2 -> 3" in caught.value.problems[0]
    assert caught.value.problems[-1] == "make them alike with --set key=value"
    assert len(compared(tmp_path, folders, changes=["sampler.steps=3"]).tables[0].rows) == 2


def test_the_same_noise_and_labels_are_drawn_in_every_row(tmp_path: Path) -> None:
    """Two rows of one recipe, told apart by what changes no weight, have the same grid."""
    rows = ["pixel_jit", "pixel_jit train.log_every=1"]
    made = compared(tmp_path, rows, changes=CHANGES)
    folder = tmp_path / "comparisons" / "it"
    one, other = (folder / grid.picture for grid in made.tables[0].grids)
    assert one.read_bytes() == other.read_bytes()


def test_a_study_is_read_with_every_mistake_at_its_line(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text(
        "seeds: [3]\nchanges: [data.size=200]\n"
        "tables:\n  - rows: {a: pixel_jit data.seed=1, b: {recipe: pixel_coredi}}\n"
    )
    assert find_study(str(good)) == good and find_study("pixel_jit") is None
    study = study_of([str(good)], None, ["train.steps=1"], [])
    assert study.seeds == [3] and study.changes == ["data.size=200", "train.steps=1"]
    assert study.tables[0].rows["a"].changes == ["data.seed=1"]
    bad = tmp_path / "bad.yaml"
    bad.write_text("seeds: [-1]\ntables:\n  - rowz: {}\n    rows: {a: pixel_jit}\n")
    with pytest.raises(UserError) as caught:
        read_study(bad)
    assert caught.value.problems == (
        f"{bad}:1: seeds.0: Input should be greater than or equal to 0",
        f"{bad}:3: tables.0.rowz: unknown key, did you mean 'rows'?",
    )
    with pytest.raises(UserError, match="a study is compared by itself"):
        study_of([str(good), "pixel_jit"], None, [], [])
    # What a study says itself is not dropped without a word where it is typed, too.
    for seeds, sweeps in (([0], []), (None, ["sampler.steps=1,2"])):
        with pytest.raises(UserError, match="has its own seeds and sweeps"):
            study_of([str(good)], seeds, [], sweeps)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("[pixel_jit]", "rows have names, as in"),
        ('{a: "pixel_jit \'x"}', "a: 'pixel_jit 'x': cannot be read"),
        ("{a: ''}", "a: a row is empty"),
        ("{a: {recipe: pixel_jit, runs: [runs/x]}}", "a: a row has a recipe or runs, one of them"),
        ("{a: {changes: [data.size=3]}}", "a: a row has a recipe or runs, one of them"),
    ],
)
def test_rows_of_a_study_are_read_or_refused(rows: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(f"tables:\n  - rows: {rows}\n")
    with pytest.raises(UserError) as caught:
        read_study(path)
    assert message in str(caught.value) and str(caught.value).startswith(f"{path}:2: tables.0.rows")


@pytest.mark.parametrize("typed", ["", "pixel_jit 'x"])
def test_rows_that_are_typed_wrongly_are_one_line(typed: str) -> None:
    with pytest.raises(UserError, match="a row is"):
        study_of([typed], None, [], [])


@pytest.mark.parametrize("name", ["../pixel_jit", ".", "", "a/b"])
def test_a_comparison_takes_no_other_folders_place(name: str, tmp_path: Path) -> None:
    """It is emptied first: a name that leads elsewhere would remove a run."""
    with pytest.raises(UserError, match="is not a folder name"):
        compare(["pixel_jit"], root=tmp_path, name=name)
    mine = tmp_path / "comparisons" / "it" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match="is there already, and no comparison"):
        compare(["pixel_jit"], root=tmp_path, name="it")
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("sweep", ["sampler=heun,eulr", "sampler.stepz=1,2", "evaluate.samples=70,3"])
def test_a_sweep_that_does_not_fit_is_found_before_anything_is_trained(sweep: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^command line: (sampler|evaluate)"):
        compare(["pixel_jit"], root=tmp_path, changes=CHANGES, sweeps=[sweep])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", shipped_studies())
def test_shipped_studies_can_be_read_and_their_recipes_too(name: str, tmp_path: Path) -> None:
    path = find_study(name)
    assert path is not None
    Comparing(read_study(path), tmp_path, tmp_path).read()


def test_sweeps_are_written_as_lists() -> None:
    assert parse_sweeps(["guidance.scale=1,1.5", "sampler=heun,euler"]) == {
        "guidance.scale": [1, 1.5],
        "sampler": ["heun", "euler"],
    }
    for text in ("guidance.scale", "guidance.scale=1", "=1,2"):
        with pytest.raises(UserError, match="a sweep is written key=value,value"):
            parse_sweeps([text])


def test_a_recipe_that_asks_for_no_score_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pixel_jit: asks for no score"):
        compare(["pixel_jit"], root=tmp_path, changes=[*QUICK_JOINT[:-1], "evaluate.samples=0"])
    assert not list(tmp_path.rglob("checkpoints"))
