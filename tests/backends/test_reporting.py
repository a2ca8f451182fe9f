from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_page import Page, rows_of, safe_page
from report_samples import ENDS, PROTOCOL, record, save_noise, write_lines, write_record, write_sample_comparison
from rich.console import Console

from latsem.backends.console import RunConsole
from latsem.backends.evaluation.protocol import follows, recipe_protocol
from latsem.backends.files import UnreadableFile
from latsem.backends.reporting.comparison_data import Comparison, ComparisonTable, Spread, read_comparison
from latsem.backends.reporting.comparison_report import write_comparison_report
from latsem.backends.reporting.embedding import WIDEST, embed, enlarged_by
from latsem.backends.reporting.run_files import read_run
from latsem.backends.reporting.run_report import EARLIER, refresh_run_report, run_view, write_run_report
from latsem.backends.reporting.scores import score_groups
from latsem.backends.reporting.values import plain
from latsem.recipes import load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pixel_coredi" / "first"
    path.mkdir(parents=True)
    return path


def test_an_empty_folder_has_a_report(folder: Path) -> None:
    page = safe_page(write_run_report(folder))
    assert "pixel_coredi" in page.text and "first" in page.text and "begun" in page.text
    assert not page.having("data-value") and not [tag for tag, _ in page.tags if tag == "img"]


def test_a_report_is_a_function_of_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_lines(folder / "metrics.jsonl", [{"step": 2, "images": 8, "loss": 1.5}])
    one = write_run_report(folder).read_bytes()
    monkeypatch.chdir(tmp_path)
    assert write_run_report(folder).read_bytes() == one
    assert write_run_report(Path("pixel_coredi") / "first").read_bytes() == one
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.jsonl", "report.html"]


def test_the_log_becomes_charts_by_stream(folder: Path) -> None:
    line = {"loss": 1.0, "loss/image": 0.6, "loss/semantic": 0.3, "loss/cov": 0.1, "error/image": 0.5, "lr": 1e-3}
    lines = [{"step": step, **line, "loss": 1 / step, "mine": step, "score/x": 3} for step in (50, 100)]
    write_lines(folder / "metrics.jsonl", lines, cut_off='{"step": 150, "im')
    (folder / "resolved.json").write_text(json.dumps({"streams": {"image": {}, "semantic": {}}}))
    view = run_view(read_run(folder))
    shown = {chart.title: [series.name for series in chart.series] for chart in view.training_charts}
    assert shown == {
        "Loss": ["loss", "loss/image", "loss/semantic"],
        "Error by stream": ["error/image"],
        "Learning rate": ["lr"],
        "Regularisers": ["loss/cov"],
        "mine": ["mine"],
    }
    assert view.training_charts[0].styles() == [0, 1, 2] and view.training_charts[1].styles() == [1]
    assert [chart.name for chart in view.score_charts] == ["score/x"] and view.step == 100 and not view.unreadable
    last = {values["data-series"]: values["data-last"] for values in Page(write_run_report(folder)).having("data-last")}
    assert last["loss"] == "0.01" and last["mine"] == "100.0"


def test_damaged_and_missing_files_are_named_and_the_rest_is_shown(folder: Path) -> None:
    (folder / "metrics.jsonl").write_text('{"step": 5, "images": 1, "loss": null}\n{"step": 6{"step": 7}\n[1]}\n{"ste')
    (folder / "resolved.json").write_text('{"recipe": {"train": {"steps": 20}')
    (folder / "environment.json").write_text("[]")
    (folder / "recipe.yaml").write_bytes(b"\xff\xfe\x00")
    write_record(folder, "step-00000006.json", record(6, {"frechet": None}))
    write_record(folder, "step-00000007.json", {"unknown": 1})
    (folder / "samples").mkdir()
    (folder / "samples" / "step-00000006.png").write_bytes(b"\x89PNG\r\n")
    save_noise(folder / "samples" / "step-00000004.png", 64, 64)
    page = safe_page(write_run_report(folder))
    warning = page.text.split("Could not be read: ")[1].split("\n")[0]
    assert set(warning.split(", ")) == {
        "metrics.jsonl",
        "resolved.json",
        "environment.json",
        "recipe.yaml",
        "step-00000007.json",
        "samples/step-00000006.png",
    }
    assert rows_of(page) == [("a1b2c3d4", "6", "frechet", "")]
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 1
    assert "at step 6" in page.text


HOSTILE = "<script>alert(1)<img src=http:x onerror=alert(1)>"


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE / '"><svg onload=alert(1)>'
    write_lines(folder / "metrics.jsonl", [{"step": 1, HOSTILE: 1.0, f"loss/{HOSTILE}": 2.0}])
    write_record(folder, "step-00000001.json", record(1, {HOSTILE: 1.0}, protocol={HOSTILE: HOSTILE}, hash=HOSTILE))
    write_record(folder, "again-00000001.json", record(1, {HOSTILE: 1.0}, protocol={"a": HOSTILE}, hash="other"))
    (folder / "recipe.yaml").write_text(f"</code></pre>{HOSTILE}")
    named = {"recipe": {HOSTILE: HOSTILE}, "resolved": {HOSTILE: HOSTILE}}
    (folder / "resolved.json").write_text(json.dumps(named))
    (folder / "environment.json").write_text(json.dumps({HOSTILE: HOSTILE, "versions": {HOSTILE: HOSTILE}}))
    page = safe_page(write_run_report(folder))
    assert page.text.count(HOSTILE) > 10

    comparison = write_sample_comparison(tmp_path / "comparison").model_dump(mode="json")
    (table, _) = comparison["tables"]
    table.update(title=HOSTILE, note=HOSTILE, hash=HOSTILE, revisions=[HOSTILE], protocol={HOSTILE: HOSTILE})
    table["rows"][1]["name"] = table["sweeps"][0]["key"] = table["grids"][0]["name"] = HOSTILE
    table["sweeps"][1]["values"][0] = HOSTILE
    comparison.update(title=HOSTILE, command=HOSTILE)
    (tmp_path / "comparison" / "comparison.json").write_text(json.dumps(comparison))
    page = safe_page(write_comparison_report(tmp_path / "comparison"))
    assert page.text.count(HOSTILE) > 10


def test_scores_are_told_apart_by_protocol(folder: Path) -> None:
    guided = {**PROTOCOL, "guidance": {"name": "cfg", "scale": 2.0}}
    write_record(folder, "step-00000500.json", record(500, {"frechet": 60.0, "kernel": 0.02, "kernel_std": 0.001}))
    write_record(folder, "step-00001000.json", record(1000, {"frechet": 40.5, "kernel": 0.01, "kernel_std": 0.002}))
    write_record(folder, "again-00001000-1.json", record(1000, {"frechet": 39.0}, protocol=guided, hash="b2"))
    write_record(folder, "again-00001000-2.json", {"step": 1000, "scores": {"frechet": 38.0}, "protocol": {"old": 1}})
    own, again, old = score_groups(read_run(folder).records)
    assert own.own and own.metrics == {"frechet": "lower", "kernel": "lower"} and not own.changed
    assert own.newest.cells["kernel"] == (0.01, 0.002) and [row.step for row in own.rows] == [500, 1000]
    assert not again.own and again.changed == ['guidance.name: "none" -> "cfg"', "guidance.scale: null -> 2.0"]
    assert old.metrics == {"frechet": ""} and old.changed and old.digest not in {"a1b2c3d4", "b2"}
    page = safe_page(write_run_report(folder))
    assert ("b2", "1000", "frechet", "39.0") in rows_of(page) and len(rows_of(page)) == 6
    assert "0.01 \u00b1 0.002" in page.text
    newest = {values["data-newest"]: values["data-value"] for values in page.having("data-newest")}
    assert newest == {"frechet": "40.5", "kernel": "0.01"}
    assert 'guidance.name: "none" -> "cfg"' in page.text
    (chart, _) = run_view(read_run(folder)).score_charts
    assert chart.better == "lower" and [list(series.points) for series in chart.series] == [[(500, 60.0), (1000, 40.5)]]


RECIPE = load("pixel_jit", data="unused").resolved()


def own_protocol(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a protocol as it is stored with a score that a run made of itself."""
    evaluate = recipe["evaluate"]
    asked = evaluate["reference"]
    what = asked["data"] or ({"name": "folder", "root": asked["folder"]} if asked["folder"] else recipe["data"])
    reference = {"what": {**what, "fingerprint": "f"}, "images": asked["images"]}
    seen = {"labels": evaluate["labels"], "extractor": {**evaluate["extractor"], "weights_sha256": "w"}}
    return {**recipe_protocol(recipe), **seen, "reference": reference, "precision": "32-true", "code": "c"}


OTHERWISE = [
    ["evaluate.guided=true", "guidance=cfg", "guidance.scale=3"],
    ["sampler.steps=7"],
    ["sampler=euler"],
    ["evaluate.samples=123"],
    ["evaluate.seed=5"],
    ["evaluate.labels=random"],
    ["evaluate.weights=last"],
    ["evaluate.metrics=[frechet]"],
    ["evaluate.extractor=shapes_vit"],
    ["evaluate.reference=20000"],
    ["evaluate.reference.folder=."],
    ["evaluate.reference.data=shapes", "evaluate.reference.data.seed=9"],
]


@pytest.mark.parametrize("changes", OTHERWISE, ids=" ".join)
def test_the_headline_is_the_recipe_s_own_protocol_whatever_was_scored_later(folder: Path, changes: list[str]) -> None:
    other = own_protocol(load("pixel_jit", changes, data="unused").resolved())
    assert follows(own_protocol(RECIPE), RECIPE) and not follows(other, RECIPE)
    (folder / "resolved.json").write_text(json.dumps({"recipe": RECIPE}))
    own = {"protocol": own_protocol(RECIPE), "hash": "m"}
    write_record(folder, "step-00000500-m.json", record(500, {"frechet": 60.0}, **own))
    write_record(folder, "step-00001000-m.json", record(1000, {"frechet": 40.0}, **own))
    # Whichever way the steps and the hashes lie.
    for step, digest in ((250, "a"), (1000, "b"), (1000, "z"), (2000, "y")):
        scores = {"frechet": 1.0}
        write_record(folder, f"step-{step:08d}-{digest}.json", record(step, scores, protocol=other, hash=digest))
    groups = score_groups(read_run(folder).records)
    assert [group.own for group in groups] == [True, False, False, False, False] and groups[0].digest == "m"
    newest = {
        values["data-newest"]: values["data-value"] for values in Page(write_run_report(folder)).having("data-newest")
    }
    assert newest == {"frechet": "40.0"}


def test_of_two_own_scores_of_a_step_the_logged_one_is_the_headline(folder: Path) -> None:
    (folder / "resolved.json").write_text(json.dumps({"recipe": RECIPE}))
    write_lines(folder / "metrics.jsonl", [{"step": 1000, "loss": 1.0, "score/frechet": 40.0}])
    for digest, score, precision in (("a", 41.0, "bf16-mixed"), ("m", 40.0, "32-true"), ("z", 42.0, "bf16-mixed")):
        protocol = own_protocol(RECIPE) | {"precision": precision}
        write_record(
            folder, f"step-00001000-{digest}.json", record(1000, {"frechet": score}, protocol=protocol, hash=digest)
        )
    assert score_groups(read_run(folder).records)[0].newest.cells["frechet"] == (40.0, None)


@pytest.mark.parametrize("recipe", [{}, {"evaluate": {}}, {"evaluate": None}, {"evaluate": {"guided": False}}])
def test_a_recipe_that_lacks_values_has_no_protocol_of_its_own(recipe: dict[str, Any]) -> None:
    assert not follows(own_protocol(RECIPE), recipe)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"name": "heun", "steps": 15}, "heun, steps 15"),
        ({"name": "cfg", "streams": ["image"], "interval": [0.0, 1.0]}, "cfg, streams image, interval (0, 1)"),
        ({"images": 10000, "what": "first"}, "images 10000, what first"),
        ([], "none"),
        (None, "none"),
        (0, "0"),
        (False, "no"),
        (0.1 + 0.2, "0.3"),
    ],
)
def test_values_are_plain_words(value: object, text: str) -> None:
    assert plain(value) == text


def test_enlarged_pixels_are_kept_and_photographs_shrink(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    how = {"caption": "c", "alt": "a"}
    save_noise(path, 1800, 900, factor=3)
    kept = embed(path, **how)
    assert (kept.width, kept.height) == (1200, 600) and kept.uri.startswith("data:image/png;base64,")
    assert enlarged_by(Image.open(path).convert("RGB")) == 3
    save_noise(path, 300, 300, factor=3)
    assert embed(path, **how).width == 300
    save_noise(path, 2000, 500)
    smaller = embed(path, **how)
    assert (smaller.width, smaller.height) == (WIDEST, 350) and smaller.uri.startswith("data:image/jpeg;base64,")
    Image.fromarray(np.zeros((40, 3000), np.uint8)).save(path)
    assert embed(path, **how).width <= WIDEST
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UnreadableFile, match="truncated|identify"):
        embed(path, **how)


def test_a_long_run_of_large_pictures_makes_a_page_that_can_be_sent(folder: Path) -> None:
    """Noise compresses worse than any picture: forty steps of 64 images of 256 x 256, and ten with their semantics."""
    for kind, size in (("samples", (2066, 2066)), ("semantics", (2582, 518))):
        save_noise(folder / kind / "step-00000500.png", *size)
        for step in range(1000, 20_500, 500):
            (folder / kind / f"step-{step:08d}.png").hardlink_to(folder / kind / "step-00000500.png")
    Image.new("RGB", (2582, 259 * 60)).save(folder / "semantics" / "evolution.png")
    page = write_run_report(folder).read_text()
    assert 1_000_000 < len(page) < 10_000_000
    captions = re.findall("<figcaption>(.*?)</figcaption>", page)
    samples = [caption for caption in captions if caption.startswith("Samples")]
    assert samples[:2] == ["Samples, step 20,000", "Samples, step 19,500"] and samples[-1] == "Samples, step 2,000"
    assert len(samples) == 1 + EARLIER and len(captions) == 2 * len(samples) and "at steps" not in page


def test_a_report_that_cannot_be_written_costs_one_line(folder: Path) -> None:
    (folder / "report.html").mkdir()
    (folder / "report.html" / "something").touch()
    console = RunConsole()
    console.console = Console(file=StringIO(), soft_wrap=True)
    assert refresh_run_report(folder, console) is None
    said = console.console.file.getvalue()  # type: ignore[attr-defined]
    assert said.count("\n") == 1 and "report.html was not written" in said


def test_a_comparison_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = write_sample_comparison(tmp_path)
    assert read_comparison(tmp_path) == written
    assert Spread.of([1.0, 3.0]) == Spread(mean=2.0, spread=2**0.5, values=[1.0, 3.0]) and Spread.of([4.0]).spread == 0
    with pytest.raises(ValueError, match="main metric 'x' is none of frechet"):
        ComparisonTable(title="t", metrics={"frechet": "lower"}, main="x", rows=written.tables[0].rows)
    with pytest.raises(ValueError, match="at least 1"):
        ComparisonTable(title="t", metrics={"frechet": "lower"}, main="frechet", rows=[])


def test_a_comparison_shows_its_numbers(tmp_path: Path) -> None:
    comparison = write_sample_comparison(tmp_path)
    (tmp_path / "grid-pixel_redi.png").unlink()
    page = safe_page(write_comparison_report(tmp_path))
    cells = [values for values in page.having("data-mean") if values["data-table"] == "1"]
    means = {(cell["data-row"], cell["data-metric"]): cell["data-mean"] for cell in cells}
    rows = comparison.tables[0].rows
    assert means == {(row.name, metric): str(row.final[metric].mean) for row in rows for metric in row.final}
    best = {v["data-metric"]: v["data-row"] for v in page.having("data-mean") if v.get("class") == "best"}
    assert best == dict.fromkeys(comparison.tables[0].metrics, "pixel_coredi")
    assert "step 400, 5\u00d7 faster" in page.text and "never" in page.text and comparison.command in page.text
    assert "Could not be read: grid-pixel_redi.png" in page.text
    assert len([tag for tag, _ in page.tags if tag == "img"]) == len(ENDS) - 1
    only = Comparison(title="t", tables=[comparison.tables[1]]).tables[0]
    assert only.rows[0].ratio is not None
