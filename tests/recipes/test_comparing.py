"""Comparisons: runs are found rather than repeated, unlike scores are refused, tables say what the runs' files say."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import QUICK, QUICK_JOINT

from latsem.backends.errors import UserError
from latsem.backends.evaluation import scoring
from latsem.backends.evaluation.records import scores_of
from latsem.backends.files import write_json
from latsem.backends.reporting.comparison_data import Comparison, Spread, read_comparison
from latsem.backends.run_folder import RunFolder
from latsem.backends.session import Session
from latsem.recipes import load
from latsem.recipes.comparing.command import compare, study_of
from latsem.recipes.comparing.comparison import Comparing, ScoredRow, compared_rows, last_shared_step
from latsem.recipes.comparing.curves import mean_curve, step_reaching
from latsem.recipes.comparing.rows import Member, TableRow
from latsem.recipes.comparing.study import StudySettings, find_study, parse_sweeps, read_study
from latsem.recipes.comparing.text import _spread
from latsem.recipes.evaluating import evaluate_run
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

    def never(self: Session, *, last: bool = True) -> None:
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
    with pytest.raises(UserError, match="train.steps: 4 -> 9: changes what was trained"):
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


def test_scores_by_an_older_revision_are_taken_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load("pixel_jit", CHANGES).run(root=tmp_path, quiet=True).folder
    compared(tmp_path, [str(run)])
    before = len(scores_of(RunFolder(run)))
    monkeypatch.setattr(scoring, "code_version", lambda: "another")
    made = compared(tmp_path, [str(run)])
    assert len(scores_of(RunFolder(run))) == before and "another" not in made.tables[0].revisions
    evaluate_run(run)
    assert len(scores_of(RunFolder(run))) == before + 1


def test_scores_against_other_images_are_refused(tmp_path: Path) -> None:
    rows = ["pixel_jit data.seed=1", "pixel_jit data.seed=2"]
    with pytest.raises(UserError, match=r"scored differently, which is not to be compared: reference.sha256"):
        compared(tmp_path, rows, changes=CHANGES)
    same = "evaluate.reference={images: 70, data: {name: shapes, size: 200, seed: 3}}"
    assert len(compared(tmp_path, rows, changes=[*CHANGES, same]).tables[0].rows) == 2


def test_rows_keep_their_order_and_none_takes_the_name_of_another(tmp_path: Path) -> None:
    folders = [tmp_path / "pixel_jit" / name for name in ("one", "two")]
    for seed, folder in enumerate(folders):
        write_json(folder / "resolved.json", {"recipe": load("pixel_jit", [f"train.seed={seed}"]).resolved()})
    rows = study_of([str(folders[1]), "pixel_jit", "latent_sit", *map(str, folders)], [0], [], []).tables[0].rows
    assert list(rows) == ["pixel_jit/two", "pixel_jit", "latent_sit"]
    assert rows["pixel_jit/two"].runs == folders[::-1]
    assert list(study_of([str(folders[0]), "latent_sit"], [0], [], []).tables[0].rows) == ["pixel_jit", "latent_sit"]


def test_only_a_comparison_is_replaced_and_only_by_a_whole_one(tmp_path: Path) -> None:
    kept = tmp_path / "runs" / "comparisons" / "it" / "mine.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    root = tmp_path / "runs"
    for name in ("..", "../..", ".", "", str(tmp_path), "a/b"):
        with pytest.raises(UserError, match="is not a folder name"):
            compare(["pixel_jit"], root=root, changes=CHANGES, name=name)
    with pytest.raises(UserError, match="holds no comparison; take another --name"):
        compare(["pixel_jit"], root=root, changes=CHANGES, name="it")
    (kept.parent / "comparison.json").write_text("{}")
    with pytest.raises(UserError, match="unknown key"):
        compare(["pixel_jit"], root=root, changes=["train.step=3"], name="it")
    assert kept.read_text() == "mine" and [path.name for path in root.iterdir()] == ["comparisons"]


def test_runs_of_unlike_steps_are_compared_by_their_curves(tmp_path: Path) -> None:
    kept = [*CHANGES, "train.keep=9"]
    lengths = {4: ["train.checkpoint_every=2"], 3: ["train.checkpoint_every=0"]}
    folders = [
        load("pixel_jit", [*kept, f"train.steps={steps}", *more])
        .run(root=tmp_path, name=f"of-{steps}", quiet=True)
        .folder
        for steps, more in lengths.items()
    ]
    told = compare([str(folder) for folder in folders], root=tmp_path, name="it")
    (table,) = read_comparison(tmp_path / "comparisons" / "it").tables
    assert [set(row.curves[0]) for row in table.rows] == [{2, 4}, {3}] and [row.step for row in table.rows] == [4, 3]
    own = [scores_of(RunFolder(folder))[-1]["scores"]["frechet"] for folder in folders]
    assert [row.final["frechet"].mean for row in table.rows] == own and [row.ratio for row in table.rows] == [
        None,
        None,
    ]
    assert table.rows[1].settings["train"]["steps"] == 3
    assert "at step 4" in told and "at step 3" in told and "No step is scored in all rows" in told
    assert "| | 2 | 3 | 4 |" in told.replace("|  |", "| |")
    report = (tmp_path / "comparisons" / "it" / "report.html").read_text()
    assert "No step is scored in all rows" in report
    # Runs that share a step are compared there, whatever comes after it.
    longer = (
        load("pixel_jit", [*kept, "train.steps=6", "train.checkpoint_every=2"]).run(root=tmp_path, quiet=True).folder
    )
    made = compared(tmp_path, [str(folders[0]), str(longer)])
    assert [row.step for row in made.tables[0].rows] == [4, 4] and made.tables[0].rows[1].ratio is not None


def test_a_comparison_says_which_row_it_is_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["pixel_jit", "pixel_jit train.lr=0.01"]
    compare(rows, root=tmp_path, name="it", seeds=[1, 2], changes=CHANGES, sweeps=["sampler.steps=1,3"])
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("row ", "sweep "))]
    places = [f"row {row}/2  {name}, seed {seed}" for row, name in enumerate(rows, 1) for seed in (1, 2)]
    assert [line.partition(": training")[0] for line in said if ": training" in line] == places
    assert [
        line.partition(": scoring")[0] for line in said if ": scoring runs" in line or ": scoring /" in line
    ] == places
    left = [line.rpartition(", ")[2] for line in said if ": training" in line]
    assert left == ["4 runs to train", "3 runs to train", "2 runs to train", "1 run to train"]
    took = [line for line in said if ": trained in" in line]
    assert len(took) == 4 and all("for the others" in line for line in took[:3]) and "others" not in took[3]
    sweeps = [line.split("  ")[0] for line in said if line.startswith("sweep") and line.endswith("scoring")]
    assert sweeps == ["sweep 1/4", "sweep 2/4", "sweep 3/4", "sweep 4/4"]
    compare(rows, root=tmp_path, name="it", seeds=[1, 2], changes=CHANGES)
    assert not [line for line in capsys.readouterr().out.splitlines() if "train" in line.partition(": ")[2][:7]]


def test_a_study_s_steps_and_the_last_are_scored(tmp_path: Path) -> None:
    changes = [*CHANGES, "train.checkpoint_every=1", "train.keep=9"]
    tables = [{"rows": {"a": "pixel_jit"}, "sweeps": {"sampler.steps": [1, 3]}}]
    study = StudySettings.model_validate({"steps": [2], "changes": changes, "tables": tables})
    told = Comparing(study, tmp_path, tmp_path / "it").run()
    (table,) = read_comparison(tmp_path / "it").tables
    assert [set(curve) for curve in table.rows[0].curves] == [{2, 4}]
    assert table.sweeps[0].values == [1, 3] and "| 1 | 3 |" in told


def test_a_score_of_zero_has_no_ratio(tmp_path: Path) -> None:
    member = Member(0, load("pixel_jit", QUICK))
    scored = [
        ScoredRow(TableRow(name, [member]), [RunFolder(tmp_path)], [[{"step": 2, "scores": {"recall": score}}]], None)  # type: ignore[arg-type]
        for name, score in (("none", 0.0), ("some", 0.5))
    ]
    rows = compared_rows(scored, "recall", {"recall": "higher"}, last_shared_step(scored))
    assert [row.ratio for row in rows] == [None, None] and rows[1].reaches_first == 2


def test_pictures_are_of_the_step_that_is_compared(tmp_path: Path) -> None:
    rows = ["pixel_jit", "pixel_jit train.steps=2"]
    compared(tmp_path, rows, changes=CHANGES)
    one, other = ((tmp_path / "comparisons" / "it" / f"samples-1-{n}.png").read_bytes() for n in (1, 2))
    assert one == other


def test_two_processes_train_and_score_all_rows(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    settings = [word for change in CHANGES for word in ("--set", change)]
    devices = ["--set", "fabric.devices=2", "--set", "fabric.accelerator=cpu"]
    for command in (["--name", "first"], ["--name", "again"]):
        done = cli("compare", "pixel_jit", "pixel_jit train.lr=0.01", *settings, *devices, *command)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("reaches pixel_jit's final at") == 1
        assert ("step 4/4" in done.stdout) == ("first" in command)
        assert "Error" not in done.stderr


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


def test_a_mistake_in_a_row_is_told_with_its_line(
    tmp_path: Path, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text("tables:\n  - rows:\n      a: pixel_jit\n      b: pixel_jit trian.steps=3 train.lr=fast\n")
    said = cli("compare", study)
    assert said.returncode == 2
    lines = said.stderr.splitlines()
    assert [line.partition(": row 'b': ")[0] for line in lines] == [f"{study}:4"] * 2
    assert any("trian: unknown key, did you mean 'train'?" in line for line in lines)
    assert any("train.lr: " in line for line in lines)


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


@pytest.mark.parametrize("sweep", ["sampler=heun,eulr", "sampler.stepz=1,2", "evaluate.samples=70,3"])
def test_a_sweep_that_does_not_fit_is_found_before_anything_is_trained(sweep: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^command line: (sampler|evaluate)"):
        compare(["pixel_jit"], root=tmp_path, changes=CHANGES, sweeps=[sweep])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", shipped_studies())
def test_shipped_studies_can_be_read_and_their_recipes_too(name: str, photos: Path, tmp_path: Path) -> None:
    path = find_study(name)
    assert path is not None
    study = read_study(path)
    own = [f"data.root={photos}"] if "data=folder" in study.changes else []
    Comparing(study.model_copy(update={"changes": [*study.changes, *own]}), tmp_path, tmp_path / "it").read()


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


def test_one_seed_has_no_spread() -> None:
    assert _spread(Spread.of([72.918])) == "72.92"
    assert _spread(Spread.of([1.0, 3.0])) == "2.000 +- 1.414"
