"""A run resumes on the data that it began with, or says what differs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK, log_of, save_dataset, write_shards
from PIL import Image
from safetensors.torch import load_file, save_file

from latsem.backends.errors import UserError
from latsem.backends.run_data import class_names, read_record
from latsem.backends.run_folder import RunFolder
from latsem.components.data import record as records
from latsem.components.data.record import SourceRecord
from latsem.components.registry import create
from latsem.components.tokenizers.settings import SHIPPED
from latsem.recipes import load
from latsem.recipes.evaluating import evaluate_run
from latsem.recipes.resuming import resume

SMALL = [*QUICK[1:-3], "evaluate.samples=0", "train.picture_images=0"]


def draw(path: Path, colour: int) -> None:
    """Write pictures of one colour: files of one size, whatever the colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 40, 3), colour, np.uint8)).save(path, "BMP")


def draw_photos(root: Path) -> Path:
    for label, first in (("cat", 10), ("dog", 150)):
        for number in range(6):
            draw(root / label / f"{number}.bmp", first + number)
    return root


@dataclass
class Begun:
    """A run of four steps, and the photos that it was trained on."""

    run: Path
    photos: Path

    def resume(self, *places: str, accept: bool = False) -> Path:
        return resume(self.run, ["steps=6"], list(places), quiet=True, accept_data=accept).folder

    def written(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.run.glob("*.json*")}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    root = tmp_path_factory.mktemp("begun")
    photos = draw_photos(root / "photos")
    recipe = load("pixel_jit", [*SMALL, "data=folder", f"data.root={photos}"])
    return Begun(recipe.run(root=root / "runs", name="run", quiet=True).folder, photos)


@pytest.fixture
def begun(first: Begun, tmp_path: Path) -> Begun:
    """Return a copy of the run, at whose photos no other test looks."""
    copy = Begun(tmp_path / "runs" / "pixel_jit" / "run", tmp_path / "photos")
    shutil.copytree(first.run, copy.run)
    shutil.copytree(first.photos, copy.photos)
    place = copy.run / "resolved.json"
    place.write_text(place.read_text().replace(str(first.photos), str(copy.photos)))
    return copy


def swap_classes(root: Path) -> None:
    (root / "cat").rename(root / "other")
    (root / "dog").rename(root / "cat")
    (root / "other").rename(root / "dog")


def whiten_with_its_time(root: Path) -> None:
    file = root / "cat" / "3.bmp"
    times = file.stat()
    draw(file, 255)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def exchange(root: Path) -> None:
    one, other, beside = root / "cat" / "1.bmp", root / "dog" / "1.bmp", root / "beside"
    one.rename(beside)
    other.rename(one)
    beside.rename(other)


CHANGES = {
    "removed": (lambda root: (root / "dog" / "5.bmp").unlink(), "images: 12 -> 11"),
    "added": (lambda root: draw(root / "dog" / "new.bmp", 0), "images: 12 -> 13"),
    "renamed": (lambda root: (root / "cat" / "0.bmp").rename(root / "cat" / "9.bmp"), "names of images"),
    "of another size": (
        lambda root: Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(root / "cat" / "0.bmp"),
        "sizes or labels of images",
    ),
    "whitened": (lambda root: draw(root / "cat" / "3.bmp", 255), "images were changed in place"),
    "whitened, time kept": (whiten_with_its_time, "images were changed in place"),
    "two exchanged": (exchange, "images were changed in place"),
    "classes exchanged": (swap_classes, "images were changed in place"),
    "class renamed": (lambda root: (root / "cat").rename(root / "feline"), "classes: cat, dog -> dog, feline"),
    "class added": (lambda root: draw(root / "zebra" / "0.bmp", 0), "images: 12 -> 13; classes: cat, dog -> cat, dog,"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_does_not_resume_on_other_data(begun: Begun, change: str) -> None:
    alter, named = CHANGES[change]
    before = begun.written()
    alter(begun.photos)
    with pytest.raises(UserError) as caught:
        begun.resume()
    assert len(caught.value.problems) == 1 and named in str(caught.value)
    assert f"latsem run --resume {begun.run} --accept-data" in str(caught.value)
    assert begun.written() == before


def test_a_change_that_is_accepted_is_recorded(begun: Begun, capsys: pytest.CaptureFixture[str]) -> None:
    draw(begun.photos / "dog" / "new.bmp", 0)
    resume(begun.run, ["steps=6"], accept_data=True)
    assert "not those that this run began with, and are accepted: images: 12 -> 13" in capsys.readouterr().out
    kept = json.loads((begun.run / "data.json").read_text())
    assert kept["images"] == 13 and kept["changes"] == [{"step": 4, "differences": ["images: 12 -> 13"]}]
    changed = {dict(line)["step"]: dict(line).get("data_changes") for line in log_of(begun.run)}
    assert changed == {2: None, 4: None, 6: 1.0}
    # From now on these are its data.
    assert resume(begun.run, ["steps=8"], quiet=True).folder == begun.run
    assert json.loads((begun.run / "data.json").read_text())["changes"] == kept["changes"]


def test_another_number_of_classes_cannot_be_accepted(begun: Begun) -> None:
    draw(begun.photos / "zebra" / "0.bmp", 0)
    with pytest.raises(UserError, match="built for 2 classes and the data have 3"):
        begun.resume(accept=True)


def test_the_same_command_again_compares_the_data_too(begun: Begun) -> None:
    changes, runs = [*SMALL, "data=folder", f"data.root={begun.photos}"], begun.run.parent.parent
    assert load("pixel_jit", changes).run(root=runs, quiet=True).folder == begun.run
    draw(begun.photos / "dog" / "new.bmp", 0)
    with pytest.raises(UserError, match=r"images: 12 -> 13"):
        load("pixel_jit", changes).run(root=runs, quiet=True)


def test_a_copy_of_the_data_is_the_same_data(begun: Begun, tmp_path: Path) -> None:
    """Times of another day, at another place; from then on the run is one of that place."""
    elsewhere = shutil.copytree(begun.photos, tmp_path / "elsewhere", copy_function=shutil.copy)
    shutil.rmtree(begun.photos)
    with pytest.raises(UserError, match="there is no folder"):
        begun.resume()
    begun.resume(f"data.root={elsewhere}")
    assert json.loads((begun.run / "resolved.json").read_text())["recipe"]["data"]["root"] == str(elsewhere)
    assert resume(begun.run, quiet=True).folder == begun.run
    draw(elsewhere / "cat" / "0.bmp", 255)
    with pytest.raises(UserError, match="changed in place"):
        resume(begun.run, quiet=True)
    with pytest.raises(UserError, match=r"only fabric.devices, .*, data.root may change"):
        begun.resume("data.image_size=64")


def test_contents_are_read_once_after_times_have_changed(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in begun.photos.rglob("*.bmp"):
        path.touch()
    begun.resume()
    monkeypatch.setattr(records, "_contents", lambda *_: pytest.fail("contents were read again"))
    assert resume(begun.run, quiet=True).folder == begun.run


def test_of_a_large_set_a_few_changed_files_are_refused(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only a sample is read, files that were changed later than others are not known to be the same."""
    monkeypatch.setattr(records, "SAMPLED_IMAGES", 4)
    source = create("data", "folder", root=begun.photos)
    record = SourceRecord.of(source)
    assert record.sampled == 4 and record.compare(source)[0] == []
    unread = source.paths[1]
    draw(begun.photos / unread, 255)
    assert record.compare(create("data", "folder", root=begun.photos))[0] == [
        "1 files were changed after this was noted"
    ]
    for path in begun.photos.rglob("*.bmp"):
        path.touch()
    assert record.compare(create("data", "folder", root=begun.photos))[0] == []
    draw(begun.photos / source.paths[3], 255)
    for path in begun.photos.rglob("*.bmp"):
        path.touch()
    assert "changed in place" in record.compare(create("data", "folder", root=begun.photos))[0][0]


def test_shards_that_were_exchanged_are_other_data(photos: Path, tmp_path: Path) -> None:
    """A shard of the same size, names and labels, with other pixels at the same places."""
    folder = write_shards(photos)
    make = lambda: create("data", "webdataset", shards=f"{folder}/*.tar", cache=tmp_path / "cache")  # noqa: E731
    record = SourceRecord.of(make())
    assert record.compare(make())[0] == [] and record.classes == ("0", "1")
    shard = folder / "photos-001.tar"
    content = bytearray(shard.read_bytes())
    middle = content.index(b"IDAT") + 60
    content[middle : middle + 20] = bytes(20)
    shard.write_bytes(content)
    assert "changed in place" in record.compare(make())[0][0]


def test_a_saved_dataset_is_told_by_its_rows(photos: Path, tmp_path: Path) -> None:
    import datasets

    make = lambda place: create("data", "huggingface", dataset=str(place))  # noqa: E731
    saved = save_dataset(photos)
    record = SourceRecord.of(make(saved))
    copied = shutil.copytree(saved, tmp_path / "copy", copy_function=shutil.copy)
    assert record.compare(make(copied))[0] == [] and record.classes == ("cat", "dog")
    table = datasets.load_from_disk(str(saved))
    table.select(reversed(range(len(table)))).flatten_indices().save_to_disk(str(tmp_path / "turned"))
    assert record.compare(make(tmp_path / "turned"))[0] == [
        "sizes or labels of images, or the way in which they are prepared"
    ]


def test_a_relative_folder_means_that_of_the_first_command(
    cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_photos(tmp_path / "photos")
    other = draw_photos(tmp_path / "elsewhere" / "photos")
    draw(other / "dog" / "new.bmp", 0)
    monkeypatch.chdir(tmp_path)
    folder = load("pixel_jit", [*SMALL, "data=folder", "data.root=photos"]).run(quiet=True, name="r").folder.resolve()
    assert class_names(RunFolder(folder)) == ("cat", "dog")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resume(folder, ["steps=6"], quiet=True).folder == folder
    refused = cli("run", "--resume", str(folder), f"data.root={other}")
    assert refused.returncode == 2 and "images: 12 -> 13" in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_other_weights_of_a_frozen_network_are_another_run(tmp_path: Path) -> None:
    """A file of weights that is replaced: the recipe is the same, and every code would be another."""
    model = shutil.copytree(SHIPPED / "shapes_vae", tmp_path / "vae")
    changes = [*SMALL, "data.size=100", f"tokenizer.model={model}"]
    folder = load("latent_sit", changes).run(root=tmp_path / "runs", quiet=True).folder
    file = model / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.startswith("encoder") and name.endswith("weight"))
    save_file({**weights, name: weights[name] * 1.01}, file)
    with pytest.raises(UserError, match=r"are not those that this run began with \(weights of the tokenizer\)"):
        resume(folder, ["steps=6"], quiet=True)
    assert resume(folder, ["steps=6"], quiet=True, accept_data=True).folder == folder


def test_a_run_without_a_record_takes_todays(begun: Begun, capsys: pytest.CaptureFixture[str]) -> None:
    (begun.run / "data.json").unlink()
    draw(begun.photos / "dog" / "new.bmp", 0)
    resume(begun.run, ["steps=6"])
    assert "has no record of the data that it began with; today's are recorded" in capsys.readouterr().out
    record = read_record(RunFolder(begun.run))
    assert record is not None and record.images == 13


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "changes": [], "networks": {}, "images": 3}', "\x00"])
def test_a_damaged_record_is_one_line(begun: Begun, text: str) -> None:
    (begun.run / "data.json").write_text(text)
    with pytest.raises(UserError, match=r"data.json: damaged .*--accept-data"):
        begun.resume()
    assert class_names(RunFolder(begun.run)) == ()
    begun.resume(accept=True)
    assert class_names(RunFolder(begun.run)) == ("cat", "dog")


def test_weights_of_other_classes_are_named(begun: Begun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = [*SMALL, "data=folder", f"train.checkpoint={begun.run}"]
    (begun.photos / "cat").rename(begun.photos / "ant")
    load("pixel_jit", [*start, f"data.root={begun.photos}"]).run(root=tmp_path / "other")
    warned = " ".join(capsys.readouterr().out.split())
    assert "trained on other classes (cat, dog) than these data have (ant, dog)" in warned
    draw(begun.photos / "zebra" / "0.bmp", 0)
    with pytest.raises(UserError, match=r"2 classes \(cat, dog\), and the data have 3 \(ant, dog, zebra\)"):
        load("pixel_jit", [*start, f"data.root={begun.photos}"]).run(root=tmp_path / "third", quiet=True)


def test_scores_against_other_data_are_warned_of(begun: Begun, capsys: pytest.CaptureFixture[str]) -> None:
    scored = ["evaluate.samples=66", "evaluate.reference=70", "evaluate.metrics=[kernel]", "sampler.steps=1"]
    for number in range(70):
        draw(begun.photos / "dog" / f"new{number}.bmp", number)
    evaluate_run(begun.run, scored)
    assert "it is scored against them: images: 12 -> 82" in capsys.readouterr().out
