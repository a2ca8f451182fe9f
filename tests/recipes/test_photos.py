"""The recipes on photos, with the networks that the `photos` extra brings."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import log_of

from latsem.recipes import load

SMALL = (
    "denoiser.depth=1",
    "denoiser.width=32",
    "denoiser.heads=2",
    "sampler.steps=2",
    "train.steps=2",
    "train.batch_size=4",
    "train.log_every=1",
    "train.picture_images=2",
    "evaluate.samples=8",
    "evaluate.reference=8",
    "evaluate.metrics=[kernel]",
)


@pytest.mark.parametrize("name", ["pixel_jit", "pixel_redi", "pixel_coredi"])
def test_a_recipe_on_photos_trains_and_is_scored_without_a_hub(name: str, photos: Path, tmp_path: Path) -> None:
    fitted = ["projection.fit_images=64"] if name != "pixel_jit" else []
    recipe = load(f"photos/{name}", [*SMALL, *fitted, f"data.root={photos}"])
    folder = recipe.run(root=tmp_path, quiet=True).folder
    lines = [dict(line) for line in log_of(folder)]
    assert "score/kernel" in lines[-1] and lines[-1]["step"] == 2
    if name != "pixel_jit":
        assert lines[-1]["std/semantic"] == pytest.approx(4, rel=0.5)
        assert lines[-1]["semantic/variance"] > 0


def test_the_recipes_differ_in_what_they_are_about() -> None:
    jit, redi, coredi = (
        load(f"photos/{name}", data="unused").resolved() for name in ("pixel_jit", "pixel_redi", "pixel_coredi")
    )
    differing = {key for key in jit if jit[key] != redi[key]}
    assert differing == {"encoder", "projection", "streams"}
    assert {key for key in redi if redi[key] != coredi[key]} == {"projection"}
    assert coredi["projection"]["channels"] == redi["projection"]["channels"]
    assert coredi["projection"]["learns_from"] == "image"
