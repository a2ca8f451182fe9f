"""The papers' recipes at the papers' size take real steps: real files, real architectures, random frozen weights."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from latsem.backends.caching.folder import stores_below
from latsem.recipes import load
from latsem.recipes.caching import make_cache

SMALL = (
    "data.expect_images=null",
    "data.expect_classes=null",
    "data.flip=false",
    "encoder.pretrained=false",
    "projection.fit_images=64",
    "train.batch_size=2",
    "train.steps=2",
    "train.log_every=1",
    "train.checkpoint_every=0",
    "train.picture_images=0",
    "evaluate.samples=0",
    "cache.features=full",
)
"""Batch 2, two steps; everything that a step is made of is as published."""

RECIPES = {
    "imagenet256/latent_redi_b": ("tokenizer.pretrained=false", "cache.features=projected"),
    "imagenet256/pixel_coredi_b": (),
}


@pytest.mark.parametrize("cached", [False, True], ids=["on line", "from a cache"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_its_published_size_learns(name: str, cached: bool, photos: Path, tmp_path: Path) -> None:
    for path in sorted(photos.rglob("*.*"))[4:]:
        path.unlink()
    overrides = [*SMALL, *RECIPES[name], f"data.root={photos}", f"cache.folder={tmp_path / 'caches'}"]
    recipe = load(name, overrides)
    if cached:
        make_cache(recipe, estimate=False, replace=False)
        assert len(list(stores_below(tmp_path / "caches"))) == 2
    folder = recipe.run(root=tmp_path / "runs", quiet=True).folder
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "loss" in line] == [1, 2]
    for line in steps:
        assert all(math.isfinite(value) for value in line.values())
        assert line["gradient_norm"] > 0 and {"loss/image", "loss/semantic"} <= set(line)
    resolved = json.loads((folder / "resolved.json").read_text())
    assert (resolved["feed"] == "images") is not cached
    assert {key: spec["channels"] for key, spec in resolved["streams"].items()}["semantic"] == 8
