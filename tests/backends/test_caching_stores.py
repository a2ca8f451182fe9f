"""Stores are named by what made them, shared by recipes, and refused when they are not what they should be."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from cache_workshop import SHARD, Workshop, equal_weights, stores_read
from conftest import QUICK_JOINT
from filelock import FileLock
from safetensors.torch import load_file
from stopped_runs import stop_after

from latsem.backends.errors import UserError
from latsem.backends.run_lock import LOCK
from latsem.recipes import load
from latsem.recipes.assemble import assemble
from latsem.recipes.caching import make_cache
from latsem.recipes.checking import cached_form, footprint
from latsem.recipes.resuming import resume


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("encoder=shapes_dino", r'encoder.name: "shapes_vit" -> "shapes_dino"; encoder.weights'),
        ("data.rotation=90", "data.fingerprint"),
        ("data.size=199", "data.images: 200 -> 199"),
        ("projection.channels=8", "features.projection.channels: 16 -> 8"),
        ("projection=random", "features.projection.name"),
    ],
)
def test_a_cache_of_something_else_is_not_read_and_stays(workshop: Workshop, change: str, named: str) -> None:
    """What is asked for is encoded on line, or stored beside it."""
    first = assemble(workshop.make())
    other = assemble(workshop.recipe("latent_redi", change))
    assert other.feed_name == "images" and re.search(rf"made otherwise: .*{named}", other.feed_note)
    with pytest.raises(UserError, match=rf"there is no cache .*{named}"):
        workshop.run(workshop.recipe("latent_redi", change, "cache.use=required"))
    assert not (workshop.root / "runs").exists()
    workshop.make("latent_redi", change)
    workshop.run(workshop.recipe("latent_redi", change, "cache.use=required"))
    assert assemble(workshop.recipe()).feed_name == first.feed_name


def test_one_store_of_features_serves_many_recipes(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    """Images alone, ReDi and CoReDi, in pixels and in latents: each store is made once and read by all that need it."""
    workshop.make("pixel_coredi")
    wanted = {
        "pixel_jit": ["pixel"],
        "pixel_redi": ["pixel", "shapes_vit-full"],
        "pixel_coredi": ["pixel", "shapes_vit-full"],
    }
    for name, stores in wanted.items():
        recipe = workshop.recipe(name, "cache.use=required")
        assert stores_read(assemble(recipe).feed_name) == stores
        assert footprint(recipe).disk.cache_there
        workshop.run(recipe)
    assert assemble(workshop.recipe("latent_coredi")).feed_name == "images"
    before = workshop.store("shapes_vit-full").manifest.stat().st_mtime_ns
    workshop.make("latent_coredi")
    assert workshop.store("shapes_vit-full").manifest.stat().st_mtime_ns == before
    for name, stores in {"latent_sit": ["vae"], "latent_redi": ["vae", "shapes_vit-full"]}.items():
        assert stores_read(assemble(workshop.recipe(name)).feed_name) == stores
    capsys.readouterr()
    workshop.make("latent_redi")
    assert "whole already" in capsys.readouterr().out and len(list((workshop.root / "caches").iterdir())) == 3


def test_a_fixed_projection_is_fitted_on_stored_features(workshop: Workshop) -> None:
    """Its statistics are those of the images, but for half precision, and so is the stream that it makes."""
    workshop.make("pixel_coredi")
    folders = [
        workshop.run(workshop.recipe("pixel_redi", f"cache.use={use}", "train.steps=1"))
        for use in ("required", "never")
    ]
    stored, fresh = (load_file(next(folder.glob("checkpoints/*/ema.safetensors"))) for folder in folders)
    for name in ("projection.mean", "projection.std", "projection.stream_std"):
        assert torch.allclose(stored[name], fresh[name], rtol=2e-3, atol=2e-3), name
    spread = stored["projection.matrix"].abs().mean(0)
    agreement = torch.nn.functional.cosine_similarity(stored["projection.matrix"], fresh["projection.matrix"], dim=0)
    assert bool((spread > 0).all()) and bool((agreement[:8].abs() > 0.99).all())


def test_a_fixed_projection_with_regularisers_needs_the_features(workshop: Workshop) -> None:
    (workshop.root / "mine.py").write_text(
        """
from latsem.components.projections.pca import PCAProjection
from latsem.components.projections.settings import PCASettings
from latsem.components.registry import register

class Kept(PCAProjection):
    def regularizers(self, grid, stream):
        return {"mine": grid.square().mean()}

@register("projection", "kept", builds=Kept)
class KeptSettings(PCASettings):
    "Fixed components with a regulariser."
"""
    )
    path = workshop.root / "kept.yaml"
    path.write_text("base: pixel_redi\nplugins: [mine.py]\nprojection: {name: kept, channels: 16}\n")
    changes = [*QUICK_JOINT, f"cache.folder={workshop.root / 'caches'}"]
    recipe = load(path, changes)
    make_cache(recipe, estimate=False, replace=False)
    assembly = assemble(recipe)
    assert stores_read(assembly.feed_name) == ["pixel", "shapes_vit-full"]
    folder = workshop.run(recipe)
    assert "loss/mine" in (folder / "metrics.jsonl").read_text()
    asked = load(path, [*changes, "cache.features=projected"])
    for act in (assemble, footprint, lambda recipe: make_cache(recipe, estimate=False, replace=False)):
        with pytest.raises(UserError, match="cache.features: 'kept' has regularisers or weights") as caught:
            act(asked)
        assert len(caught.value.problems) == 1


def test_images_that_were_changed_in_place_are_refused(workshop: Workshop, photos: Path) -> None:
    """Names and sizes are the same; a copy of the same images has times of its own, and is served."""
    overrides = ["data=folder", f"data.root={photos}"]
    recipe = workshop.make("latent_redi", *overrides)
    copied = shutil.copytree(photos, workshop.root / "copy", copy_function=shutil.copy)
    elsewhere = workshop.recipe("latent_redi", "data=folder", f"data.root={copied}")
    assert assemble(elsewhere).feed_name == assemble(recipe).feed_name
    victim = sorted(photos.rglob("*.png"))[0]
    content = bytearray(victim.read_bytes())
    content[60:80] = bytes(20)
    victim.write_bytes(content)
    changed = workshop.recipe("latent_redi", *overrides, "data.max_unreadable=0.5")
    with pytest.raises(UserError, match=r"made otherwise \(images were changed in place"):
        assemble(changed)
    assert not footprint(changed).disk.cache_there and footprint(elsewhere).disk.cache_there
    with pytest.raises(UserError, match="--replace"):
        make_cache(changed, estimate=False, replace=False)
    make_cache(changed, estimate=False, replace=True)
    assert assemble(changed).feed_name != "images" and footprint(changed).disk.cache_there


def test_a_run_on_accepted_data_reads_a_store_of_them(workshop: Workshop, photos: Path) -> None:
    overrides = ["data=folder", f"data.root={photos}", "evaluate.samples=0"]
    folder = workshop.run(workshop.make("pixel_jit", *overrides))
    shutil.copy(photos / "cat" / "000.jpg", photos / "cat" / "more.jpg")
    with pytest.raises(
        UserError, match=r"the cache that this run began with .* is not there .*data.images: 100 -> 101"
    ):
        resume(folder, ["steps=6"], quiet=True, accept_data=True)
    workshop.make("pixel_jit", *overrides)
    with pytest.raises(UserError, match=r"images: 100 -> 101"):
        resume(folder, ["steps=6"], quiet=True)
    assert resume(folder, ["steps=6"], quiet=True, accept_data=True).folder == folder
    assert resume(folder, ["steps=8"], quiet=True).folder == folder


def test_sums_are_compared_once_a_run_and_what_is_damaged_is_made_again(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = workshop.make()
    done = workshop.run(workshop.recipe("latent_redi", "train.seed=7", "evaluate.samples=0"))
    whole = {path: path.read_bytes() for path in (workshop.root / "caches").glob("*/*.safetensors")}
    features = workshop.store("shapes_vit-projected").path / SHARD
    content = bytearray(features.read_bytes())
    content[-4000:] = bytes(4000)
    features.write_bytes(content)
    with pytest.raises(UserError, match=rf"{SHARD}: damaged \(its sha256 is not the recorded one\)"):
        workshop.run(recipe)
    with pytest.raises(UserError, match=rf"{SHARD}: damaged"):
        resume(done, ["steps=6"], quiet=True)
    assert len(list((workshop.root / "runs").rglob("checkpoints"))) == 1
    capsys.readouterr()
    workshop.make()
    assert "1 damaged shards are made again" in capsys.readouterr().out
    assert whole == {path: path.read_bytes() for path in (workshop.root / "caches").glob("*/*.safetensors")}
    workshop.run(recipe)
    form = workshop.store("shapes_vit-projected").form_state
    content = bytearray(form.read_bytes())
    content[-64:] = bytes(64)
    form.write_bytes(content)
    with pytest.raises(UserError, match=r"form.safetensors: damaged"):
        workshop.run(workshop.recipe("latent_redi", "train.seed=5"))
    with pytest.raises(UserError, match=r"form.safetensors: damaged .*--replace"):
        workshop.make()


def test_a_check_says_there_only_of_a_cache_that_is_read(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cached_form(workshop.recipe()) == ""
    recipe = workshop.make()
    assert cached_form(recipe) == "projected" and footprint(recipe).disk.cache_there
    for change in ("cache.use=never", "encoder=shapes_dino", "data.seed=3", "projection.channels=4"):
        assert not footprint(workshop.recipe("latent_redi", change)).disk.cache_there, change
    finished = workshop.store("vae").manifest
    finished.rename(finished.with_name("begun.json"))
    assert not footprint(recipe).disk.cache_there


def test_a_cache_of_an_older_version_is_left_and_named(workshop: Workshop) -> None:
    old = workshop.root / "caches" / "latent_redi"
    old.mkdir(parents=True)
    (old / "cache.json").write_text(json.dumps({"format": 1, "key": {}, "notes": {}, "shards": []}))
    assembly = assemble(workshop.recipe())
    assert assembly.feed_name == "images" and "is of an older version, and can be removed" in assembly.feed_note
    with pytest.raises(UserError, match=r"there is no cache .*latent_redi is of an older version.*'latsem cache'"):
        assemble(workshop.recipe("latent_redi", "cache.use=required"))
    assert not footprint(workshop.recipe()).disk.cache_there
    workshop.make()
    assert assemble(workshop.recipe()).feed_name != "images"


def test_two_processes_do_not_write_one_store(workshop: Workshop) -> None:
    """Of two recipes that share features the second is refused while the first writes."""
    workshop.make("pixel_coredi")
    store = workshop.store("shapes_vit-full")
    store.clear()
    busy = pytest.raises(UserError, match="shapes_vit-full-.*: another process is writing this cache")
    with FileLock(store.path / LOCK), busy:
        workshop.make("latent_coredi")
    workshop.make("latent_coredi")
    assert stores_read(assemble(workshop.recipe("pixel_redi")).feed_name) == ["pixel", "shapes_vit-full"]


def test_a_run_keeps_the_store_that_it_began_with(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that would be preferred appears in the middle of a run: the numbers stay those of the first."""
    workshop.make("pixel_coredi")
    recipe = workshop.recipe("pixel_redi")
    expected = recipe.run(root=workshop.root / "undisturbed", quiet=True).folder
    stop_after(monkeypatch, 2, lambda: recipe.run(root=workshop.root / "runs", quiet=True))
    workshop.make("pixel_redi", "cache.features=projected")
    assert stores_read(assemble(recipe).feed_name) == ["pixel", "shapes_vit-projected"]
    folder = workshop.run(recipe)
    assert stores_read(json.loads((folder / "resolved.json").read_text())["feed"])[1] == "shapes_vit-full"
    assert equal_weights(folder, expected)
