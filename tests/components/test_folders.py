"""A folder of images is what its owner means by it, whatever systems, links and mistakes have put there."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import QUICK
from PIL import Image

from latsem.components.data.files import find_images, open_regular
from latsem.components.data.folder import ImageFolder
from latsem.components.data.slow_reads import SlowReads
from latsem.components.messages import printable
from latsem.components.registry import create


def picture(path: Path, level: int = 9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), level).save(path)


def opened(root: Path, **values: object) -> ImageFolder:
    source: ImageFolder = create("data", "folder", root=root, image_size=8, **values)
    return source


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Return two classes, cat (level 40) and dog (200)."""
    root = tmp_path / "animals"
    for name, level in (("cat", 40), ("dog", 200)):
        for number in range(4):
            picture(root / name / f"{number}.png", level)
    return root


def check_labels(source: ImageFolder, images: int = 8) -> None:
    """Assert that every image has the label of its colour."""
    assert source.class_names == ("cat", "dog") and len(source) == images
    for index in range(images):
        image, label = source.item(index, 0)
        assert label == int(image.float().mean() > 100)


@pytest.mark.parametrize(
    "left",
    [
        ".ipynb_checkpoints/0-checkpoint.png",
        "cat/.ipynb_checkpoints/0-checkpoint.png",
        "__MACOSX/cat/._0.png",
        "@eaDir/cat/SYNOPHOTO_THUMB_M.jpg",
        "dog/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
        "cat/._0.png",
        "._preview.png",
        ".thumbnails/a.png",
        ".git/a.png",
        "$RECYCLE.BIN/a.png",
        "#recycle/a.jpg",
        "System Volume Information/a.png",
        "lost+found/a.png",
    ],
)
def test_what_systems_leave_is_neither_class_nor_image(animals: Path, left: str) -> None:
    picture(animals / left, 200)
    source = opened(animals)
    check_labels(source)
    assert "eaDir" not in source.describe() and "no image in" not in source.describe()


def test_other_files_are_counted_and_named(animals: Path) -> None:
    for name in ("a.heic", "b.HEIC", "notes.txt", "Thumbs.db", ".DS_Store", "README"):
        (animals / "cat" / name).write_bytes(b"something")
    for kind in ("gif", "tif", "TIFF", "jp2", "avif", "ppm", "jfif"):
        Image.new("RGB", (8, 8), (40, 40, 40)).save(animals / "cat" / f"other.{kind}", {"jfif": "JPEG"}.get(kind))
    source = opened(animals)
    check_labels(source, 15)
    assert source.describe().endswith("; other files: 2 .heic, 1 without an ending, 1 .txt")
    (animals / "empty").mkdir()
    assert "; no image in empty;" in opened(animals).describe()
    for path in animals.rglob("*.*"):
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(OSError, match=r"no image file .* below .*; other files: 13 .heic, 1 without"):
        opened(animals)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_pipes_and_sockets_are_left_out_and_never_waited_for(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(animals / "cat" / "pipe.png")
    (animals / "dog" / "link.png").symlink_to(animals / "cat" / "pipe.png")
    (animals / "dog" / "null.png").symlink_to("/dev/null")
    monkeypatch.chdir(animals)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("cat/socket.png")
        source = opened(animals)
    check_labels(source)
    named = "pipes, sockets or devices left out: cat/pipe.png, cat/socket.png, dog/link.png and 1 more"
    assert f"; {named}" in source.describe()
    victim = animals / source.paths[3]
    victim.unlink()
    os.mkfifo(victim)
    with pytest.warns(UserWarning, match="not a regular file, left out"), pytest.raises(OSError, match="1 of 8"):
        source.item(3, 0)
    with pytest.raises(ValueError, match="pipe.png: is not a regular file"), open_regular(animals / "cat" / "pipe.png"):
        pass


LOOPS: dict[str, tuple[str, str]] = {
    "up": ("cat/all", ".."),
    "itself": ("cat/again", "."),
    "above the root": ("cat/above", "../.."),
    "a sibling": ("cat/friend", "../dog"),
    "another name": ("kitty", "cat"),
    "before its name": ("a", "dog"),
    "everything": ("dog/disk", "/"),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_links_lead_to_every_folder_once(animals: Path, loop: str) -> None:
    place, target = LOOPS[loop]
    (animals / place).symlink_to(target)
    source = opened(animals)
    check_labels(source)
    assert f"links not followed, as their folders are there already: {place}" in source.describe()


def test_links_to_elsewhere_are_followed(animals: Path, tmp_path: Path) -> None:
    root = tmp_path / "linked"
    root.mkdir()
    for name in ("cat", "dog"):
        (root / name).symlink_to(animals / name)
    picture(tmp_path / "far" / "one.png", 40)
    (tmp_path / "far" / "back").symlink_to(root)
    (animals / "cat" / "far").symlink_to(tmp_path / "far")
    (root / "dog" / "linked.png").symlink_to(animals / "dog" / "0.png")
    source = opened(root)
    check_labels(source, 10)
    assert "links not followed, as their folders are there already: cat/far/back" in source.describe()


def test_a_broken_link_is_a_damaged_image(animals: Path) -> None:
    (animals / "cat" / "gone.png").symlink_to("nowhere.png")
    (animals / "cat" / "round.png").symlink_to("round.png")
    source = opened(animals, max_unreadable=0.2)
    check_labels(source)
    assert source.unreadable == {"cat/gone.png", "cat/round.png"}
    assert "cat/gone.png: No such file or directory" in source.describe()


def test_a_folder_that_cannot_be_read_is_an_error(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path.endswith("cat"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr("latsem.components.data.files.os.scandir", refusing)
    with pytest.raises(OSError, match=r"/cat cannot be read: Permission denied; its images would be missing"):
        opened(animals)


def test_images_beside_the_class_folders(animals: Path) -> None:
    picture(animals / "preview.png", 90)
    with pytest.warns(UserWarning, match="1 image lies beside the class folders, and is left out: preview.png"):
        source = opened(animals)
    check_labels(source)
    for number in range(4):
        picture(animals / f"more{number}.png", 90)
    with pytest.warns(UserWarning, match="taken as unlabelled: 5 lie beside the 2 sub-folders .*more0.png"):
        mixed = opened(animals)
    assert mixed.num_classes == 0 and len(mixed) == 13
    with warnings.catch_warnings(action="error"):
        assert len(opened(animals, labels="none")) == 13


def test_one_folder_beside_images_is_no_class(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png", "d.png", "more/e.png"):
        picture(tmp_path / name)
    with warnings.catch_warnings(action="error"):
        source = opened(tmp_path)
    assert source.num_classes == 0 and len(source) == 5


def test_a_root_that_is_a_level_too_high_is_noticed(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("cat", "dog", "eel"):
            picture(tmp_path / "set" / part / name / "0.png")
    noticed = r"classes train, val: made of sub-folders \(cat, dog, eel\).* too high: .../train"
    with pytest.warns(UserWarning, match=noticed):
        source = opened(tmp_path / "set")
    assert "2 classes: train, val" in source.describe()
    with pytest.warns(UserWarning, match=r"class set: made of sub-folders \(train, val\)"):
        assert "1 class: set" in opened(tmp_path).describe()
    with warnings.catch_warnings(action="error"):
        assert "3 classes: cat, dog, eel" in opened(tmp_path / "set" / "train").describe()


def test_many_classes_are_shortened(tmp_path: Path) -> None:
    for number in range(12):
        picture(tmp_path / f"n{number:02d}" / "0.png")
    assert "12 classes: n00, n01, n02, n03, n04 and 7 more" in opened(tmp_path).describe()


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_names_that_are_not_utf8_never_end_a_run(
    locale: str, animals: Path, cli: Callable[..., subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = os.fsencode(animals) + b"/caf\xe9"
    os.mkdir(folder)  # noqa: PTH102
    for number in range(4):
        (animals / "cat" / f"{number}.png").rename(os.fsdecode(folder + b"/\xff%d\n.png" % number))
    (animals / "dog" / os.fsdecode(b"\xe9.png")).write_bytes(b"no image")
    source = opened(animals, max_unreadable=0.5)
    assert source.class_names == ("caf\\udce9", "dog") and source.unreadable == {"dog/\\udce9.png"}
    assert source.key(source.paths.index(os.fsdecode(b"caf\xe9/\xff0\n.png"))) == "caf\\udce9/\\udcff0\\n.png"
    monkeypatch.setenv("LC_ALL", locale)
    changes = [*QUICK[1:], "evaluate.samples=0", "data=folder", f"data.root={animals}", "data.max_unreadable=0.5"]
    done = cli("run", "pixel_jit", *changes, "train.picture_every=2", "--name", "odd")
    assert done.returncode == 0, done.stderr
    said = "".join(done.stdout.split())
    assert r"2classes:caf\udce9,dog" in said and r"(dog/\udce9.png)" in said
    assert list(animals.parent.glob("runs/*/odd/report.html"))


def test_printable_text_is_kept_and_the_rest_escaped() -> None:
    assert printable("Ünïcödé 猫.png") == "Ünïcödé 猫.png"
    assert printable("a\nb\x1b[31m\udce9") == "a\\nb\\x1b[31m\\udce9"


def test_a_read_that_hangs_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    reads, release = SlowReads(patience=0.06), threading.Event()

    def read() -> None:
        with reads.watched("disk/far\n.png"):
            release.wait(10)

    reading = threading.Thread(target=read)
    reading.start()
    said = ""
    until = time.monotonic() + 10
    while "far" not in said and time.monotonic() < until:
        time.sleep(0.02)
        said += capsys.readouterr().err
    release.set()
    reading.join()
    assert "still waiting for disk/far\\n.png after 0 s: is its disk or network there?" in said


def test_the_watch_of_reads_ends_with_them() -> None:
    reads = SlowReads(patience=0.03)
    for _ in range(3):
        with reads.watched("a"), reads.watched("b"):
            pass
    assert reads._watcher is not None
    reads._watcher.join(10)
    assert not reads._watcher.is_alive() and not reads._reads


def test_the_order_of_the_images_does_not_depend_on_links(animals: Path) -> None:
    plain = find_images(animals).images
    (animals / "dog").rename(animals.parent / "elsewhere")
    (animals / "dog").symlink_to(animals.parent / "elsewhere")
    assert find_images(animals).images == plain
