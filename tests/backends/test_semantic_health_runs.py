"""What a run reports of its semantic stream."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import QUICK_JOINT, log_of
from lightning_fabric import Fabric

from latsem.backends.reporting.run_files import read_run
from latsem.backends.reporting.run_report import run_view
from latsem.backends.semantic_health import SemanticHealth, summary
from latsem.recipes import load
from latsem.recipes.assemble import assemble

MEASURED = {"semantic/accuracy", "semantic/variance", "semantic/rank", "semantic/neighbours", "semantic/angle"}


def health_lines(folder: Path) -> dict[int, dict[str, float]]:
    lines = {}
    for line in map(dict, log_of(folder)):
        if found := {name: value for name, value in line.items() if name.startswith("semantic/")}:
            lines[line["step"]] = found
    return lines


def test_a_stream_that_learns_is_measured_on_the_way_and_a_fixed_one_at_the_end(tmp_path: Path) -> None:
    values = [*QUICK_JOINT, "train.health_every=2"]
    learned = health_lines(load("pixel_coredi", values).run(root=tmp_path, quiet=True).folder)
    fixed = health_lines(load("pixel_redi", values).run(root=tmp_path, quiet=True).folder)
    assert set(learned) == {2, 4} and set(fixed) == {4}
    for line in (*learned.values(), *fixed.values()):
        assert {name for name in line if not name.endswith("_fixed")} == MEASURED
    # The fixed projection of pixel_redi is a whitened PCA, too, of other images of the same scenes.
    assert fixed[4]["semantic/variance"] == pytest.approx(fixed[4]["semantic/variance_fixed"], abs=0.1)
    assert fixed[4]["semantic/rank"] == pytest.approx(fixed[4]["semantic/rank_fixed"], rel=0.15)


def test_the_report_has_a_chart_for_each_figure_with_the_fixed_projection_in_it(tmp_path: Path) -> None:
    folder = load("pixel_coredi", [*QUICK_JOINT, "train.health_every=2"]).run(root=tmp_path, quiet=True).folder
    charts = {chart.name: chart for chart in run_view(read_run(folder)).training_charts}
    for name in MEASURED - {"semantic/angle"}:
        assert [series.name for series in charts[name].series] == [name, f"{name}_fixed"]
        assert [step for step, _ in charts[name].series[0].points] == [2, 4]
    assert "semantic/angle" in charts


def test_images_without_labels_or_without_semantics_have_no_accuracy(tmp_path: Path) -> None:
    unlabelled = load("pixel_coredi", [*QUICK_JOINT, "data.labels=none"]).run(root=tmp_path, quiet=True).folder
    assert set(health_lines(unlabelled)[4]) & MEASURED == MEASURED - {"semantic/accuracy"}
    quick = [value for value in QUICK_JOINT if not value.startswith("projection")]
    assert health_lines(load("pixel_jit", quick).run(root=tmp_path, quiet=True).folder) == {}


def test_a_fixed_projection_that_means_less_is_not_said_to_learn() -> None:
    changes = ["data.size=600", "projection=random", "projection.channels=1", "projection.fit_images=512"]
    assembly = assemble(load("pixel_coredi", changes))
    projection = assembly.model.projection
    assert projection is not None
    features = assembly.feed.features(assembly.feed.read([(index, 0) for index in range(512)]))
    assert features is not None
    projection.fit([features])
    said: list[str] = []
    health = SemanticHealth(assembly, Fabric(accelerator="cpu", devices=1), said.append)
    found = health.measure(projection)
    assert found["semantic/accuracy"] < found["semantic/accuracy_fixed"] - 0.07 and said == []
    # One that learns would have been reported.
    health.learns = True
    health.measure(projection)
    assert len(said) == 1


def test_a_stream_that_loses_its_meaning_is_reported_once() -> None:
    assembly = assemble(load("pixel_coredi", ["data.size=600", "projection.fit_images=512"]))
    projection = assembly.model.projection
    assert projection is not None
    features = assembly.feed.features(assembly.feed.read([(index, 0) for index in range(512)]))
    assert features is not None
    projection.fit([features])
    said: list[str] = []
    health = SemanticHealth(assembly, Fabric(accelerator="cpu", devices=1), said.append)
    healthy = health.measure(projection)
    assert said == [] and healthy["semantic/accuracy"] > 0.9
    # The directions of least variance hold next to nothing of what the encoder says.
    standardized = projection.standardize(features).movedim(1, -1).flatten(0, -2).double()
    _, directions = torch.linalg.eigh(standardized.T @ standardized)
    with torch.no_grad():
        projection.matrix.copy_(directions[:, : projection.channels])
    lost = health.measure(projection)
    health.measure(projection)
    assert len(said) == 1 and "loses meaning while it is learned: nearest-neighbour accuracy" in said[0]
    assert lost["semantic/accuracy"] < healthy["semantic/accuracy"] - 0.1
    assert lost["semantic/variance"] < 0.2 * lost["semantic/variance_fixed"] and lost["semantic/angle"] > 60
    assert "nearest-neighbour accuracy" in summary(lost) and "fixed projection" in summary(lost)
    assert summary({}) == ""
