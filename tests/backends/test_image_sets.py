"""Many images as files: the same bytes whatever the batch, the number of processes, or how often it was begun."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK_JOINT
from PIL import Image

from latsem.backends.errors import UserError
from latsem.backends.image_set import ImageSet
from latsem.recipes import load
from latsem.recipes.assemble import open_run

COUNT = {"pixel_coredi": 1_000, "latent_redi": 200}
"""Images that are drawn of a run; decoding is most of the time in latents."""

MODEL = [*QUICK_JOINT, "denoiser.width=64", "evaluate.samples=0", "sampler.steps=3"]


@pytest.fixture(scope="module", params=["pixel_coredi", "latent_redi"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of a few steps."""
    return load(request.param, MODEL).run(root=tmp_path_factory.mktemp("runs"), quiet=True).folder


def digest(folder: Path) -> str:
    """Return a digest of all names and bytes."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.png")):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def sampled(folder: Path, to: Path, *more: str) -> subprocess.Popen[str]:
    """Start the command as a process of its own."""
    command = ["sample", str(folder), "-n", str(COUNT[folder.parent.name]), "--seed", "3", "--to", str(to), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "latsem.cli", *command],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def test_many_images_are_the_same_bytes_however_they_are_drawn(folder: Path, tmp_path: Path) -> None:
    count = COUNT[folder.parent.name]
    for name, batch in (("seven", 7), ("sixty", 64), ("many", 250)):
        open_run(folder).write_images(count, 3, tmp_path / name, batch_size=batch)
    finished(sampled(folder, tmp_path / "two", "fabric.devices=2", "fabric.accelerator=cpu", "--batch-size", "64"))
    killed = sampled(folder, tmp_path / "killed", "--batch-size", "16")
    while len(list((tmp_path / "killed").glob("*.png"))) < 50 and killed.poll() is None:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    there = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("*.png")}
    assert 0 < len(there) < count
    finished(sampled(folder, tmp_path / "killed", "--batch-size", "250"))
    names = ("seven", "sixty", "many", "two", "killed")
    assert len({digest(tmp_path / name) for name in names}) == 1
    for name in names:
        assert len(list((tmp_path / name).glob("*.png"))) == count
        assert json.loads((tmp_path / name / "samples.json").read_text())["complete"]


def test_an_npz_holds_the_same_images_and_their_labels(folder: Path, tmp_path: Path) -> None:
    run = open_run(folder)
    run.write_images(12, 5, tmp_path / "images", labels="random")
    target = run.write_images(12, 5, tmp_path / "images.npz", labels="random", batch_size=5)
    with np.load(target, allow_pickle=False) as arrays:
        pixels, labels = arrays["arr_0"], arrays["arr_1"]
    assert pixels.shape == (12, 32, 32, 3) and pixels.dtype == np.uint8
    for index in range(12):
        assert (np.asarray(Image.open(tmp_path / "images" / f"{index:06d}.png")) == pixels[index]).all()
    generator = run.parts.generator(run.device, run.precision)
    assert labels.tolist() == generator.labels(range(12), "random", 5).tolist()
    assert len(set(labels.tolist())) > 1 and labels.tolist() != [index % 5 for index in range(12)]
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(UserError, match="is there already"):
        run.write_images(12, 5, target)


def test_more_images_are_added_and_others_refused(folder: Path, tmp_path: Path) -> None:
    run, images = open_run(folder), tmp_path / "images"
    run.write_images(5, 1, images)
    before = digest(images)
    run.write_images(9, 1, images, batch_size=4)
    assert len(list(images.glob("*.png"))) == 9
    with pytest.raises(UserError, match=r"came about otherwise \(seed: 1 -> 2\); take another folder"):
        run.write_images(9, 2, images)
    with pytest.raises(UserError, match="came about otherwise .*sampler.steps: 3 -> 4"):
        open_run(folder, ["sampler.steps=4"]).write_images(9, 1, images)
    with pytest.raises(UserError, match="holds 9 images, not 5"):
        run.write_images(5, 1, images)
    for index in range(5, 9):
        (images / f"{index:06d}.png").unlink()
    assert digest(images) == before
    (images / "000007.png").write_bytes((images / "000001.png").read_bytes())
    (images / "extra.png").write_bytes(b"")
    with pytest.raises(UserError, match="1 images missing or too many, extra.png first"):
        run.write_images(9, 1, images)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no samples of latsem"):
        ImageSet(other).claim(3, {})
    for left in (".DS_Store", "._000000.png", "Thumbs.db", "@eaDir"):
        (tmp_path / "looked-at").mkdir(exist_ok=True)
        (tmp_path / "looked-at" / left).write_bytes(b"")
    run.write_images(2, 1, tmp_path / "looked-at")
    assert json.loads((tmp_path / "looked-at" / "samples.json").read_text())["complete"]
    with pytest.raises(UserError, match=r"mine.txt: is a file; name a folder"):
        run.write_images(2, 1, other / "mine.txt")
