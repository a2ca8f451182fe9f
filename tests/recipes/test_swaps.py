"""Layers of a recipe, and what a part keeps of the one that it replaces."""

from __future__ import annotations

import json
import shlex
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from latsem.backends.errors import UserError
from latsem.recipes import load
from latsem.recipes.combining import combine
from latsem.recipes.layers import command_line
from latsem.recipes.recipe import from_values
from latsem.recipes.schema import RecipeSettings
from latsem.recipes.yaml_reader import Sourced


def layered(*layers: dict[str, Any], changes: tuple[str, ...] = ()) -> dict[str, Any]:
    return combine([*([Sourced(each)] for each in layers), command_line(changes)], RecipeSettings).values


def notes(*layers: dict[str, Any], changes: tuple[str, ...] = (), complete: bool = False) -> tuple[str, ...]:
    found = [[Sourced(each, complete=complete)] for each in layers]
    return combine([*found, command_line(changes)], RecipeSettings).notes


HEUN = {"sampler": {"name": "heun", "steps": 15}}
PCA = {"projection": {"name": "pca", "channels": 16, "whiten": True}}
COEVOLVING = {"projection": {"name": "coevolving", "init": "pca", "lr": 0.1}}


def test_sections_merge_by_key_and_everything_else_replaces() -> None:
    below = {"train": {"steps": 1, "betas": [0.1, 0.2]}, "evaluate": {"reference": {"images": 5}}}
    assert layered(below, {"train": {"betas": [0.3, 0.4]}})["train"] == {"steps": 1, "betas": [0.3, 0.4]}
    file = {"evaluate": {"reference": {"file": "x.npz"}}}
    assert layered(file, {"evaluate": {"reference": 7}})["evaluate"]["reference"] == {"images": 7}
    assert layered(file, {"evaluate": {"reference": {"images": 7}}})["evaluate"]["reference"] == {
        "file": "x.npz", "images": 7,
    }  # fmt: skip
    assert layered(file, changes=("evaluate.reference=7",))["evaluate"]["reference"] == {"images": 7}
    assert layered(below, {"train": None})["train"] == below["train"]
    streams = layered({"streams": {"semantic": {"scale": 4}}}, {"streams": {"semantic": {"weight": 1}}})["streams"]
    assert streams == {"semantic": {"scale": 4, "weight": 1}}


def test_a_name_alone_keeps_what_was_said_of_the_part() -> None:
    assert layered(HEUN, {"sampler": "heun"})["sampler"] == HEUN["sampler"]
    assert layered({"sampler": "heun"}, {"sampler": {"steps": 3}})["sampler"] == {"name": "heun", "steps": 3}
    assert layered({}, changes=("sampler.steps=3",))["sampler"] == {"name": "heun", "steps": 3}
    assert layered({"encoder": "shapes_vit"}, {"encoder": None})["encoder"] is None


def test_a_swap_keeps_what_both_parts_have() -> None:
    assert layered(PCA, {"projection": "random"})["projection"] == {"name": "random", "channels": 16}
    data = {"data": {"name": "shapes", "labels": "none", "size": 10}}
    assert layered(data, changes=("data=folder", "data.root=x"))["data"] == {
        "name": "folder", "labels": "none", "root": "x",
    }  # fmt: skip
    denoiser = {"denoiser": {"name": "jit", "patch": 16, "size": "H", "depth": 3, "fusion": {"name": "separate"}}}
    assert layered(denoiser, changes=("denoiser=dit",))["denoiser"] == {
        "name": "dit", "patch": 16, "depth": 3, "fusion": {"name": "separate"},
    }  # fmt: skip


def test_a_part_that_was_chosen_before_has_again_what_was_said_of_it() -> None:
    back = layered(PCA, COEVOLVING, {"projection": {"channels": 4}}, {"projection": "pca"})["projection"]
    assert back == {"name": "pca", "channels": 4, "whiten": True}
    assert layered(HEUN, {"sampler": {"name": "sde", "steps": 9}}, {"sampler": "heun"})["sampler"]["steps"] == 15


def test_what_means_something_else_in_another_part_is_not_kept_and_is_said() -> None:
    assert layered(HEUN, {"sampler": "euler"})["sampler"] == {"name": "euler"}
    assert notes(HEUN, {"sampler": "euler"}) == (
        "sampler: 'euler' instead of 'heun': steps is 50, its default (15 was set for 'heun')",
    )
    assert notes(HEUN, {"sampler": {"name": "euler", "steps": 3}}) == ()
    (size,) = notes({"denoiser": {"name": "jit", "size": "H"}}, {"denoiser": "sit"})
    assert "size is tiny, its default (H was set for 'jit')" in size
    weights = {"encoder": {"name": "dinov2_small", "weights": "a.safetensors", "antialias": False}}
    assert layered(weights, {"encoder": "dinov2_base"})["encoder"] == {"name": "dinov2_base", "antialias": False}
    guided = {"guidance": {"name": "cfg", "scale": 3.0, "streams": ["image"], "interval": [0.1, 1.0]}}
    assert layered(guided, {"guidance": "representation"})["guidance"] == {
        "name": "representation", "interval": [0.1, 1.0],
    }  # fmt: skip


def test_of_a_run_only_what_somebody_chose_is_kept_or_missed() -> None:
    run = load("pixel_coredi", ["guidance.interval=[0.2, 0.8]", "sampler.steps=25"]).resolved()
    swapped = from_values("run", run, ["guidance=representation", "train.semantic_dropout=0.2"], data="unused")
    assert swapped.settings.guidance.interval == [0.2, 0.8]  # type: ignore[attr-defined]
    assert notes(run, changes=("sampler=euler",), complete=True) == ()
    assert "15 was set" in notes({**run, **HEUN}, changes=("sampler=euler",), complete=True)[0]


ORDERS: list[tuple[list[str], dict[str, Any]]] = [
    (["sampler.steps=3", "sampler=euler"], {"sampler.name": "euler", "sampler.steps": 3}),
    (
        ["guidance.scale=3", "guidance=representation", "guidance.interval=[0, 0.5]", "train.semantic_dropout=0.1"],
        {"guidance.name": "representation", "guidance.scale": 3, "guidance.interval": [0, 0.5]},
    ),
    (
        ["data.image_size=64", "data=folder", "data.root=/x", "data.flip=no"],
        {"data.name": "folder", "data.image_size": 64, "data.root": "/x", "data.flip": False},
    ),
    (
        ["denoiser.fusion=separate", "denoiser.depth=2", "denoiser=dit"],
        {"denoiser.name": "dit", "denoiser.depth": 2, "denoiser.fusion.name": "separate"},
    ),
    (
        [
            "evaluate.extractor.network.half=true",
            "evaluate.extractor.network=dinov2_small",
            "evaluate.extractor=encoder",
        ],
        {"evaluate.extractor.name": "encoder", "evaluate.extractor.network.name": "dinov2_small"},
    ),
    (
        ["evaluate.reference.data.image_size=64", "evaluate.reference.data=folder", "evaluate.reference.data.root=/x"],
        {"evaluate.reference.data.name": "folder", "evaluate.reference.data.image_size": 64},
    ),
    (
        ["projection={name: pca, channels: 4}", "projection.whiten=true", "encoder=shapes_dino"],
        {"projection.name": "pca", "projection.channels": 4, "projection.whiten": True},
    ),
    (
        ["streams={semantic: {scale: 2}}", "streams.semantic.weight=3"],
        {"streams.semantic.scale": 2, "streams.semantic.weight": 3},
    ),
]


def at(values: Any, path: str) -> Any:
    for key in path.split("."):
        values = values[key]
    return values


@pytest.mark.parametrize(("overrides", "expected"), ORDERS)
def test_the_order_of_overrides_is_of_no_consequence(overrides: list[str], expected: dict[str, Any]) -> None:
    for order in permutations(overrides):
        found = load("pixel_coredi", order, data="unused").resolved()
        assert {path: at(found, path) for path in expected} == expected, order


def test_of_a_key_that_is_there_twice_the_last_holds() -> None:
    twice = ["train.steps=3", "sampler=euler", "train.steps=4", "sampler=heun", "sampler.steps=2"]
    settings = load("pixel_jit", twice).settings
    assert settings.train.steps == 4 and settings.sampler.model_dump() == {"name": "heun", "steps": 2}
    assert load("pixel_jit", ["sampler.steps=2", "sampler={name: sde, steps: 9}"]).settings.sampler.steps == 2  # type: ignore[attr-defined]


def test_a_part_that_is_emptied_has_no_settings() -> None:
    for order in permutations(["encoder=null", "encoder.image_size=28"]):
        with pytest.raises(UserError, match="command line: encoder: has no 'name'"):
            load("pixel_coredi", order)


def test_layers_of_files_swap_by_the_same_rule(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("base: pixel_jit\ndata: {labels: none}\nsampler: {steps: 7}\n")
    (tmp_path / "two.yaml").write_text("base: one.yaml\ndata: {name: folder, root: x}\nsampler: euler\n")
    recipe = load(tmp_path / "two.yaml", data="unused")
    assert recipe.settings.data.labels == "none" and recipe.settings.sampler.steps == 50  # type: ignore[attr-defined]
    assert recipe.warnings == ("sampler: 'euler' instead of 'heun': steps is 50, its default (7 was set for 'heun')",)
    (tmp_path / "two.yaml").write_text("base: one.yaml\nsampler: {name: sde, stepz: 3}\n")
    with pytest.raises(UserError, match=r"two.yaml:2: sampler.stepz: unknown key, did you mean 'steps'"):
        load(tmp_path / "two.yaml", data="unused")


def test_redi_and_coredi_are_a_swap_apart() -> None:
    redi, coredi = load("pixel_redi").resolved(), load("pixel_coredi", ["projection=pca"]).resolved()
    assert redi == coredi


README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SWAPS = [
    shlex.split(line, comments=True)[2:]
    for line in map(str.strip, README.splitlines())
    if line.startswith("latsem run recipes/") and "=" in line.partition("#")[0] and "imagenet" not in line
]
"""The README's examples of a recipe with changes that need nothing but this machine."""


def test_the_readme_swaps_parts() -> None:
    assert {"encoder=shapes_dino", "projection=pca", "data=folder"} <= {word for line in SWAPS for word in line}


@pytest.mark.parametrize("words", SWAPS, ids=" ".join)
def test_the_losses_of_the_readmes_swaps_are_of_the_size_of_the_recipes(
    words: list[str], photos: Path, tmp_path: Path
) -> None:
    found = {}
    for name, changes in (("as it is", []), ("swapped", words[1:])):
        local = [f"data.root={photos}" if change.startswith("data.root=") else change for change in changes]
        quick = ["train.steps=3", "train.batch_size=16", "train.log_every=3", "train.picture_images=0"]
        run = load(Path(words[0]).stem, [*local, *quick, "evaluate.samples=0", "projection.fit_images=64"])
        folder = run.run(root=tmp_path / name, quiet=True).folder
        found[name] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    # At the same scale an untrained network is about as far from one stream as from another.
    for loss in ("loss/image", "loss/semantic"):
        assert 0.5 < found["swapped"][loss] / found["as it is"][loss] < 2, (loss, found)
