"""What is stored is what would have been encoded, or it is refused."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cache_workshop import SHARD, Workshop, equal_weights, store_below
from conftest import QUICK_JOINT, write_shards
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from stopped_runs import stop_after

from latsem.backends import tensor_files
from latsem.backends.caching.forms import BasisFeatures, EightBitFeatures, FeatureForm, FullFeatures, ProjectedFeatures
from latsem.backends.errors import RunFailed, UserError
from latsem.backends.loader import ImageFeed, batches_at
from latsem.components.registry import create
from latsem.recipes import load
from latsem.recipes.assemble import assemble
from latsem.recipes.caching import make_cache

CPU = torch.device("cpu")
FEATURES = 24


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def grids(count: int = 8, seed: int = 0) -> list[torch.Tensor]:
    """Features with few important directions and scales of their own."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(FEATURES, FEATURES, generator=torch.Generator().manual_seed(9)) * torch.logspace(0, -2, FEATURES)
    values = torch.randn(count, 6, 4, 4, FEATURES, generator=generator) @ mix.T
    return list(values.movedim(-1, 2) * torch.linspace(0.1, 30, FEATURES)[:, None, None] + 5)


def relative_error(form: FeatureForm, grid: torch.Tensor) -> float:
    restored = form.unpack(form.pack(grid)).features
    assert restored is not None and restored.shape == grid.shape
    standard = grid.std((0, 2, 3), keepdim=True)
    return float(((restored - grid) / standard).square().mean().sqrt())


@pytest.mark.parametrize(
    ("form", "largest"),
    [
        (FullFeatures(FEATURES), 2e-3),
        (EightBitFeatures(FEATURES), 0.02),
        (BasisFeatures(FEATURES, FEATURES), 0.01),
        (BasisFeatures(12, FEATURES), 0.25),
    ],
    ids=["full", "8bit", "whole basis", "half basis"],
)
def test_forms_give_features_back(form: FeatureForm, largest: float) -> None:
    form.fit(grids(40))
    new = grids(seed=1)[0]
    stored = form.pack(new)
    assert stored.shape == (6, form.channels, 4, 4) and stored.element_size() == form.width
    assert relative_error(form, new) < largest
    again = type(form)(**{k: v for k, v in vars(form).items() if k in ("channels", "features")})
    again.state = form.state
    assert torch.equal(again.unpack(stored).features, form.unpack(stored).features)


def test_a_basis_keeps_the_share_of_the_variance_that_it_says() -> None:
    form = BasisFeatures(6, FEATURES)
    form.fit(grids(40))
    everything = torch.cat(grids(40))
    restored = form.unpack(form.pack(everything)).features
    standard = everything.std((0, 2, 3), keepdim=True)
    lost = float(((restored - everything) / standard).square().mean())
    assert lost == pytest.approx(1 - float(form.state["kept"]), abs=2e-3) and 0.5 < float(form.state["kept"]) < 1


def test_what_a_fixed_projection_makes_is_stored_as_it_is() -> None:
    projection = create("projection", "pca", features=FEATURES, channels=4)
    form = ProjectedFeatures(projection)
    form.fit(grids())
    grid = grids(seed=1)[0]
    assert torch.allclose(form.unpack(form.pack(grid)).semantic, projection(grid), rtol=1e-3, atol=1e-3)
    other = ProjectedFeatures(create("projection", "pca", features=FEATURES, channels=4))
    other.state = form.state
    assert torch.equal(other.projection(grid), projection(grid))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("latent_sit", "auto"),
        ("latent_redi", "auto"),
        ("latent_coredi", "auto"),
        ("latent_coredi", "8bit"),
        ("latent_coredi", "basis"),
        ("pixel_coredi", "auto"),
    ],
)
def test_a_cache_holds_what_encoding_gives_and_a_run_reads_it(workshop: Workshop, name: str, form: str) -> None:
    overrides = [f"cache.features={form}", "cache.components=96"]
    recipe = workshop.make(name, *overrides)
    cached = assemble(recipe)
    assert cached.feed_name != "images" and len(cached.feed) == 200
    online = ImageFeed(cached.source, cached.space)
    feeds = (cached.feed, online)
    stored, fresh = (feed.encode(batch) for feed in feeds for batch in batches_at(feed, range(150, 200), 50, CPU))
    assert torch.allclose(stored.code, fresh.code, atol=0.02, rtol=1e-3)
    if stored.semantic is not None:
        wanted = cached.model.projection(fresh.features)
        assert torch.allclose(stored.semantic, wanted, atol=0.02)
    elif fresh.features is not None:
        assert relative(stored.features, fresh.features) < 0.03
    folder = workshop.run(recipe)
    assert json.loads((folder / "resolved.json").read_text())["feed"] == cached.feed_name
    assert (folder / "done.json").is_file()


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).square().mean().sqrt() / other.std())


def test_flips_are_stored_and_paired(workshop: Workshop, photos: Path) -> None:
    """With flips on, an odd augmentation seed reads the mirror image's entry."""
    overrides = ["data=folder", f"data.root={photos}", "tokenizer.sample=false"]
    recipe = load("latent_redi", [*QUICK_JOINT[1:], f"cache.folder={workshop.root / 'caches'}", *overrides])
    make_cache(recipe, estimate=False, replace=False)
    assembly = assemble(recipe)
    for index, seed in [(0, 2), (0, 3), (61, 7), (99, 4)]:
        image, label = assembly.source.item(index, seed)
        entry = assembly.feed.read([(index, seed)])
        fresh = assembly.space.encode(image[None])
        assert int(entry["label"]) == label
        assert torch.allclose(entry["code"].float(), fresh.code[0], atol=0.02, rtol=1e-3)
    assert not torch.equal(assembly.feed.read([(0, 2)])["code"], assembly.feed.read([(0, 3)])["code"])
    workshop.run(recipe)
    victim = next((photos / "cat").iterdir())
    victim.rename(victim.with_name("renamed" + victim.suffix))
    again = load("latent_redi", [*QUICK_JOINT[1:], f"cache.folder={workshop.root / 'caches'}", *overrides])
    assembly = assemble(again)
    assert assembly.feed_name == "images" and "made otherwise: data.names" in assembly.feed_note


def test_mirror_images_of_shards_are_stored_and_paired(workshop: Workshop, photos: Path) -> None:
    overrides = ["data=webdataset", f"data.shards={write_shards(photos)}/*.tar", f"data.cache={workshop.root}"]
    common = ["tokenizer.sample=false", f"cache.folder={workshop.root / 'caches'}", "cache.shard_images=64"]
    recipe = load("latent_redi", [*QUICK_JOINT[1:], *common, *overrides])
    make_cache(recipe, estimate=False, replace=False)
    assembly = assemble(recipe)
    assert assembly.feed_name != "images"
    for index, seed in [(0, 2), (63, 3), (64, 7), (99, 4)]:
        image = assembly.source.item(index, 0)[0]
        fresh = assembly.space.encode(image.flip(-1)[None] if seed % 2 else image[None])
        assert torch.allclose(assembly.feed.read([(index, seed)])["code"].float(), fresh.code[0], atol=0.02, rtol=1e-3)


def test_a_cache_can_be_required_or_left_alone(workshop: Workshop) -> None:
    with pytest.raises(UserError, match="there is no cache"):
        assemble(workshop.recipe("latent_redi", "cache.use=required"))
    workshop.make()
    assert assemble(workshop.recipe("latent_redi", "cache.use=never", "data.rotation=90")).feed_name == "images"


def test_a_run_goes_on_with_what_it_began_with(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that appears in the middle of a run does not change its numbers; one that is gone is asked for."""
    recipe, undisturbed = workshop.recipe(), Workshop(workshop.root / "other")
    expected = recipe.run(root=undisturbed.root, quiet=True).folder
    stop_after(monkeypatch, 2, lambda: recipe.run(root=workshop.root / "runs", quiet=True))
    workshop.make()
    assert equal_weights(workshop.run(recipe), expected)
    cached = workshop.recipe("latent_redi", "train.seed=3")
    stop_after(monkeypatch, 2, lambda: cached.run(root=workshop.root / "runs", quiet=True))
    shutil.rmtree(workshop.root / "caches")
    with pytest.raises(UserError, match=r"the cache that this run began with .* is not there"):
        workshop.run(cached)


def damaged(workshop: Workshop, damage: Callable[[Path], object]) -> str:
    recipe = workshop.make()
    damage(workshop.store("shapes_vit-projected").path)
    with pytest.raises(UserError) as caught:
        workshop.run(recipe)
    assert not (workshop.root / "runs").exists() and len(caught.value.problems) == 1
    return str(caught.value)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def swap_keys(path: Path) -> None:
    tensors = load_file(path)
    tensors["keys"] = tensors["keys"].flip(0).contiguous()
    save_file(tensors, path)


def break_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[:8] = b"\xff" * 8
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: cut(folder / SHARD), rf"{SHARD}: .* bytes instead of"),
        (lambda folder: (folder / SHARD).unlink(), rf"{SHARD}: no bytes instead of"),
        (lambda folder: break_header(folder / SHARD), rf"{SHARD}: damaged"),
        (lambda folder: swap_keys(folder / SHARD), rf"{SHARD}: has no entry for '0/64'"),
        (lambda folder: cut(folder / "form.safetensors"), "form.safetensors: missing or damaged"),
        (lambda folder: (folder / "cache.json").write_text("{"), "cache.json: damaged"),
        (lambda folder: (folder / "cache.json").unlink(), "this cache is not finished"),
    ],
    ids=["cut", "gone", "header", "keys", "form", "manifest", "unfinished"],
)
def test_damage_is_found_before_anything_is_used(
    workshop: Workshop, damage: Callable[[Path], object], named: str
) -> None:
    assert re.search(named, damaged(workshop, damage))


FULL = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
]


@pytest.mark.parametrize("error", FULL, ids=["system", "safetensors"])
def test_a_full_disk_keeps_the_shards_before_it(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    written = tensor_files.save_file
    calls: list[Path] = []

    def failing(tensors: dict[str, torch.Tensor], path: Path, notes: dict[str, str] | None) -> None:
        written(tensors, path, notes)
        if "shard" in path.name:
            calls.append(path)
            if len(calls) == 5:
                raise error

    monkeypatch.setattr(tensor_files, "save_file", failing)
    with pytest.raises(RunFailed, match="shard 3 of 4 could not be written: the disk is full"):
        workshop.make()
    folder = workshop.store("vae")
    assert not folder.complete() and len(list(folder.path.glob("shard-*.safetensors"))) == 2
    assert not list((workshop.root / "caches").glob("*/.shard*"))
    workshop.make()
    assert len(calls) == 9, "the three files that were there are not written again"
    assert folder.complete() and workshop.store("shapes_vit-projected").complete()


def test_a_file_that_the_system_refuses_is_one_line(tmp_path: Path) -> None:
    """A real write that fails half-way: files of this process may not grow beyond 30,000 bytes."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
    arguments = ["latsem", "cache", "latent_redi", *QUICK_JOINT]
    code = f"{limit}import sys; sys.argv = {arguments!r}\nfrom latsem.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "shard 1 of 1 could not be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not list((tmp_path / "caches").glob("vae-*/*shard*"))


def test_a_disk_that_is_too_small_is_found_first(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"needs .* kB more and the disk has 1 kB"):
        workshop.make()
    assert not list((workshop.root / "caches").glob("*/shard-*"))


def test_a_killed_process_leaves_nothing_half_written_and_is_gone_on_with(workshop: Workshop, tmp_path: Path) -> None:
    arguments = ["latent_redi", *QUICK_JOINT[1:], "data.size=3000", "cache.shard_images=100", "cache.folder=caches"]
    command = [sys.executable, "-m", "latsem.cli", "cache", *arguments]
    caches = tmp_path / "caches"
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and len(list(caches.glob("shapes_vit-*/shard-*.json"))) < 3:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    folders = [store_below(caches, "vae"), store_below(caches, "shapes_vit-projected")]
    assert not any(folder.complete() for folder in folders)
    before = {path: path.stat().st_mtime_ns for path in caches.glob("*/shard-*.json")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert all(folder.complete() and len(folder.shards()) == 30 for folder in folders)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    whole = tmp_path / "whole"
    again = [*command[:-1], f"cache.folder={whole}"]
    subprocess.run(again, cwd=tmp_path, capture_output=True, timeout=300, check=True)
    for folder in folders:
        other = whole / folder.path.name
        assert all(
            (folder.path / each.file).read_bytes() == (other / each.file).read_bytes() for each in folder.shards()
        )


def test_two_processes_write_one_cache_and_the_estimate_is_right(workshop: Workshop, tmp_path: Path) -> None:
    arguments = ["latent_coredi", *QUICK_JOINT, "cache.shard_images=30", "cache.features=8bit"]
    command = [sys.executable, "-m", "latsem.cli", "cache", *arguments]
    estimated = subprocess.run([*command, "--estimate"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert list(tmp_path.iterdir()) == []
    assert all(word in estimated.stdout for word in ("full", "* 8bit", "basis", "on line", "more arithmetic"))
    two = ["fabric.devices=2", "fabric.accelerator=cpu"]
    done = subprocess.run([*command, *two], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    folders = [store_below(tmp_path / "caches", name) for name in ("vae", "shapes_vit-8bit")]
    assert all(len(folder.shards()) == 7 for folder in folders) and "relative error" in done.stdout
    one = subprocess.run(
        [*command, "cache.folder=one"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True
    )
    assert one.returncode == 0
    for folder in folders:
        other = tmp_path / "one" / folder.path.name
        assert all(
            (folder.path / each.file).read_bytes() == (other / each.file).read_bytes() for each in folder.shards()
        )
    written = sum(record.bytes for folder in folders for record in folder.shards())
    line = next(line for line in estimated.stdout.splitlines() if "* 8bit" in line)
    number, unit = line.split()[2:4]
    assert float(number) * {"kB": 1e3, "MB": 1e6}[unit] == pytest.approx(written, rel=0.05)
