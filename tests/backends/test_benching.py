"""Benchmarks count what they say they count; how long it takes is for the machine to say."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK_JOINT
from report_page import safe_page

from latsem.backends.benching.rounds import Timer, ratio, spread
from latsem.backends.errors import UserError
from latsem.recipes import load
from latsem.recipes.assemble import assemble
from latsem.recipes.benching import Bench, bench, image_only, load_bare, load_subjects, stand_in, subjects_of
from latsem.recipes.caching import make_cache
from latsem.recipes.checking import footprint
from latsem.recipes.derive import stream_specs

SMALL = ("denoiser.depth=1", "denoiser.width=32", "denoiser.heads=2", "train.batch_size=8", "fabric.accelerator=cpu")
ONCE = {"rounds": 2, "warmup": 1}


def test_calls_are_made_in_turn_after_those_that_do_not_count() -> None:
    calls: list[str] = []
    timer = Timer(torch.device("cpu"))
    timer._repeats = lambda call, warmup: 1  # type: ignore[method-assign]
    seconds = timer.in_turn({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=3, warmup=2)  # type: ignore[misc]
    assert "".join(calls) == "ababab" and [len(each) for each in seconds.values()] == [3, 3]


def test_short_calls_are_made_until_they_can_be_timed() -> None:
    calls: list[int] = []
    Timer(torch.device("cpu")).in_turn({"a": lambda: calls.append(1)}, rounds=1, warmup=2)
    assert len(calls) > 100


def test_spread_and_ratio_are_medians_with_quartiles() -> None:
    assert vars(spread([5, 1, 2, 4, 3])) == {"median": 3, "low": 2, "high": 4}
    # Round by round: whatever slows a round down slows both.
    assert vars(ratio([2, 20, 200], [1, 10, 100])) == {"median": 2, "low": 2, "high": 2}
    assert spread([7]).median == 7


@pytest.mark.parametrize("recipe", ["pixel_coredi", "latent_redi"])
def test_a_step_counts_the_arithmetic_that_check_predicts(recipe: str) -> None:
    changes = [*SMALL, "cache.use=required"]
    report = bench(recipe, changes, Bench("train", **ONCE))
    [measured] = report.measured
    predicted = 8 * footprint(load(recipe, [*SMALL, "cache.use=never"])).arithmetic.training_flops
    assert measured.flops_per_second * measured.seconds.median == pytest.approx(predicted)
    assert measured.ceiling_share == pytest.approx(measured.flops_per_second / report.ceiling)
    assert measured.images_per_second * measured.seconds.median == pytest.approx(8)
    assert sum(measured.stages.values()) == pytest.approx(1) and min(measured.stages.values()) >= 0
    assert {"encoding", "forward", "backward", "optimizer", "average", "guard"} <= measured.stages.keys()


def test_encoding_counts_only_where_it_is_done_on_line() -> None:
    stored, online = (
        load_subjects("latent_redi", [*SMALL, f"cache.use={use}"], Bench("train", **ONCE))[0].flops
        for use in ("required", "never")
    )
    assert online - stored == 8 * footprint(load("latent_redi", [*SMALL, "cache.use=never"])).arithmetic.encoding_flops


@pytest.mark.parametrize(
    ("guidance", "rows"),
    [("none", 4), ("{name: cfg, scale: 2}", 8), ("{name: cfg, scale: 2, interval: [0.2, 0.8]}", 7)],
)
def test_sampling_counts_every_image_that_the_network_is_shown(guidance: str, rows: int) -> None:
    """Four steps of Euler, at t = 0, 1/4, 1/2 and 3/4; three of them in the interval."""
    changes = [*SMALL, "sampler={name: euler, steps: 4}", f"guidance={guidance}"]
    [subject] = load_subjects("pixel_coredi", changes, Bench("sample", **ONCE, images=5))
    forward = 2 * footprint(load("pixel_coredi", [*SMALL])).arithmetic.forward_multiply_adds
    assert subject.flops == rows * 5 * forward and subject.images == 5
    assert subject.stages(1).keys() == {"network", "sampler", "decoding"}


@pytest.mark.parametrize(
    ("recipe", "form"),
    [("latent_redi", "projected"), ("latent_coredi", "full"), ("latent_coredi", "8bit"), ("latent_coredi", "basis")],
)
def test_stand_ins_are_what_a_cache_gives(recipe: str, form: str, tmp_path: Path) -> None:
    cached = [
        *QUICK_JOINT[1:],
        "data.size=40",
        f"cache.features={form}",
        "cache.components=16",
        f"cache.folder={tmp_path}",
    ]
    make_cache(load(recipe, cached), estimate=False, replace=False)
    real = assemble(load(recipe, cached)).feed
    _, _, feed = stand_in(load(recipe, [*cached, "cache.use=required"]))
    expected, found = real.read([(0, 0), (1, 0)]), feed.batch(2)
    shapes = [{name: (value.shape, value.dtype) for name, value in each.items()} for each in (expected, found)]
    assert shapes[0] == shapes[1]
    encoded = [vars(each.encode(batch)) for each, batch in ((real, expected), (feed, found))]
    kinds = [{name: value is not None and value.shape for name, value in each.items()} for each in encoded]
    assert kinds[0] == kinds[1]


def test_without_semantics_a_recipe_is_the_image_alone() -> None:
    bare = image_only(load("latent_coredi", ["guidance=representation"]))
    assert list(stream_specs(bare.settings)) == ["image"] and bare.settings.encoder is bare.settings.projection is None
    assert bare.settings.guidance.name == "none"
    # Its data need not be there either.
    [subject] = load_subjects("imagenet256/latent_redi_b", ["cache.use=required", *SMALL], Bench("train", **ONCE))
    published = image_only(load_bare("imagenet256/latent_redi_b", ["cache.use=required", *SMALL]))
    [alone] = subjects_of("alone", published, Bench("train", **ONCE))
    assert 0.9 * subject.flops < alone.flops < subject.flops
    assert bare.settings.denoiser == load("latent_coredi", []).settings.denoiser


def test_two_recipes_in_turn_by_the_command(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    common = ["bench", "pixel_coredi", *SMALL, "--rounds", "3", "--warmup", "1"]
    said = cli(*common, "--against", "image_only", "--json")
    assert said.returncode == 0, said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    first, second = found["measured"]
    pairs = [one / other for one, other in zip(first["all_seconds"], second["all_seconds"], strict=True)]
    assert found["ratio"]["median"] == pytest.approx(sorted(pairs)[1]) and found["rounds"] == 3
    assert found["conditions"]["precision"] in ("32-true", "bf16-mixed") and second["name"] == "image_only"
    told = cli(*common, "--against", "denoiser.depth=2")
    assert told.returncode == 0 and "x the time of denoiser.depth=2 (quartiles" in told.stdout


def test_growth_is_one_plot_with_what_arithmetic_predicts(
    cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    changes = [*SMALL, "cache.use=required"]
    told = cli("bench", "pixel_coredi", *changes, "--what", "growth", "--rounds", "2", "--warmup", "1", "--json")
    assert told.returncode == 0, told.stderr
    found = {each["name"]: each for each in json.loads(told.stdout)["measured"]}
    page = safe_page(tmp_path / "growth-pixel_coredi.html")
    for axis in ("batch", "width", "tokens", "streams, merged", "streams, separate"):
        assert any(name.startswith(axis) for name in found) and axis in page.text
    work = {name: each["flops_per_second"] * each["seconds"]["median"] for name, each in found.items()}
    assert work["batch x 2"] == pytest.approx(2 * work["the recipe"])
    predicted = found["the recipe"]["seconds"]["median"] * work["width x 2"] / work["the recipe"]
    assert f"{predicted:.3g}" in page.text
    assert found["batch x 4"]["images_per_second"] * found["batch x 4"]["seconds"]["median"] == pytest.approx(32)


def test_every_kernel_that_runs_here_is_timed() -> None:
    report = bench("pixel_coredi", SMALL, Bench("attention", **ONCE))
    names = [each.name for each in report.measured]
    assert names == ["products", "sdpa"], "on a CPU"
    assert report.measured[0].flops_per_second > 0


def test_reading_takes_real_data(tmp_path: Path) -> None:
    changes = [*SMALL, "data.size=40", f"cache.folder={tmp_path}"]
    [measured] = bench("pixel_coredi", changes, Bench("data", **ONCE)).measured
    assert measured.images_per_second > 0 and measured.flops_per_second == 0


@pytest.mark.parametrize(
    ("recipe", "what", "against", "said"),
    [
        ("pixel_jit", "encode", None, "there is nothing to encode"),
        ("pixel_coredi", "attention", "image_only", "--against: attention is timed with every kernel"),
        ("pixel_coredi", "train", "pixel_nothing", "pixel_nothing"),
        ("pixel_coredi", "train", "denoiser.depht=3", "did you mean 'depth'"),
    ],
)
def test_what_cannot_be_timed(recipe: str, what: Any, against: str | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        bench(recipe, SMALL, Bench(what, **ONCE), against)


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--what", "growth", "--against", "image_only"], "no --against"), (["--out", "page.html"], "only --what growth")],
)
def test_options_that_do_not_go_together(
    options: list[str], said: str, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    told = cli("bench", "pixel_coredi", *options)
    assert told.returncode == 2 and said in told.stderr and len(told.stderr.splitlines()) == 1


@pytest.mark.parametrize(("steps", "traced"), [(20, "00000008-00000012"), (4, "00000001-00000004")])
def test_a_profiled_run_leaves_a_trace_with_the_names_of_stages(
    steps: int, traced: str, cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    quick = [*QUICK_JOINT, f"train.steps={steps}", "evaluate.samples=0", "train.picture_images=0"]
    ran = cli("run", "pixel_coredi", *quick, "--name", "run", "--profile")
    assert ran.returncode == 0, ran.stderr
    path = tmp_path / "runs" / "pixel_coredi" / "run" / "profile" / f"steps-{traced}.json.gz"
    assert path.name in ran.stdout
    with gzip.open(path, "rt") as file:
        events = json.load(file)["traceEvents"]
    named = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    first, last = map(int, traced.split("-"))
    for stage in ("data", "encoding", "forward", "backward", "guard", "optimizer", "average"):
        assert named.count(stage) == last - first + 1, stage
    assert any(event["name"] == "aten::addmm" for event in events)
