"""What lies in tar shards: names that are there twice, further images, several archives in a file, labels."""

from __future__ import annotations

import io
import tarfile
import warnings
from pathlib import Path

import pytest
from conftest import add_member
from PIL import Image
from shard_files import opened, png


def sample(number: int, label: int) -> list[tuple[str, bytes]]:
    return [(".png", png(number)), (".cls", str(label).encode())]


def tar_with(path: Path, members: list[tuple[str, bytes]]) -> str:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            add_member(tar, name, content)
    return str(path)


def test_a_name_that_is_there_twice_is_an_error_with_both_places(tmp_path: Path) -> None:
    pair = [("a.png", png(1)), ("a.cls", b"0")]
    twice = tar_with(tmp_path / "twice.tar", [*pair, ("b.png", png(2)), ("b.cls", b"1"), *pair])
    with pytest.raises(ValueError, match=r"twice.tar: a.png is there twice, at bytes 512 and 4,608; write it again"):
        opened(twice, cache=tmp_path)
    dotted = tar_with(tmp_path / "dotted.tar", [("./a.png", png(1)), ("a.png", png(2))])
    with pytest.raises(ValueError, match="a.png is there twice"):
        opened(dotted, cache=tmp_path)
    labels = tar_with(tmp_path / "labels.tar", [*pair, ("a.cls", b"1")])
    with pytest.raises(ValueError, match="a.cls is there twice"):
        opened(labels, cache=tmp_path)


def test_of_several_images_of_a_sample_one_has_to_be_named(tmp_path: Path) -> None:
    photos = [
        (f"{number}.{kind}", png(level + number)) for kind, level in (("jpg", 10), ("png", 20)) for number in (0, 1)
    ]
    name = tar_with(tmp_path / "masks.tar", photos)
    with pytest.raises(ValueError, match=r"sample 0 has several images \(jpg at byte .*, png at byte .*data.image"):
        opened(name, cache=tmp_path)
    for kind, level in (("jpg", 10), (".PNG", 20)):
        source = opened(name, cache=tmp_path, image=kind, image_size=8)
        assert [int(source.item(index, 0)[0].max()) for index in range(2)] == [level, level + 1]
    with pytest.raises(ValueError, match="no image with the extension .webp"):
        opened(name, cache=tmp_path, image="webp")


def test_dots_in_names_merge_nothing_silently(tmp_path: Path) -> None:
    scans = [(f"scan_{number}{end}.png", png(number)) for number in range(4) for end in ("", ".5")]
    with pytest.warns(UserWarning, match=r"further dot in their names .* are not read \(4 .5.png\).*data.image"):
        assert len(opened(tar_with(tmp_path / "scans.tar", scans), cache=tmp_path)) == 4
    inputs = tar_with(tmp_path / "inputs.tar", [(f"{number}.input.jpg", png(number)) for number in range(3)])
    with pytest.raises(ValueError, match=r"no image .*: there are 3 .input.jpg, to be named by data.image"):
        opened(inputs, cache=tmp_path)
    with warnings.catch_warnings(action="error"):
        assert len(opened(inputs, cache=tmp_path, image="input.jpg")) == 3


def test_shards_behind_each_other_in_one_file_are_all_read(tmp_path: Path) -> None:
    first = Path(tar_with(tmp_path / "first.tar", [("a.png", png(1)), ("b.png", png(2))])).read_bytes()
    second = Path(tar_with(tmp_path / "second.tar", [("c.png", png(3))])).read_bytes()
    both = tmp_path / "both.tar"
    both.write_bytes(first + second + bytes(5000))
    source = opened(str(both), cache=tmp_path, image_size=8)
    assert [int(source.item(index, 0)[0].max()) for index in range(3)] == [1, 2, 3]
    both.write_bytes(first + first)
    with pytest.raises(ValueError, match="a.png is there twice"):
        opened(str(both), cache=tmp_path)
    both.write_bytes(first + b"something else")
    with pytest.warns(UserWarning, match="both.tar: 14 bytes behind its end mark are no tar archive"):
        assert len(opened(str(both), cache=tmp_path)) == 2


def test_classes_without_an_image_are_reported(tmp_path: Path) -> None:
    def labelled(name: str, labels: list[int]) -> str:
        return tar_with(tmp_path / name, [file for n, c in enumerate(labels) for file in named_sample(n, c)])

    with pytest.warns(
        UserWarning, match=r"go up to 2, and 1 of these 3 classes have no image \(0\); labels count from 0"
    ):
        opened(labelled("one.tar", [1, 2, 1]), cache=tmp_path)
    with pytest.warns(UserWarning, match=r"go up to 20,240, and 20,238 of .* \(2, 3, 4, 5, 6 and 20,233 more\)$"):
        opened(labelled("far.tar", [0, 1, 20240]), cache=tmp_path)
    with warnings.catch_warnings(action="error"):
        opened(labelled("whole.tar", [0, 1, 2]), cache=tmp_path)


def named_sample(number: int, label: int) -> list[tuple[str, bytes]]:
    return [(f"{number}{end}", content) for end, content in sample(number, label)]


def test_every_format_is_read_and_what_systems_leave_is_not(tmp_path: Path) -> None:
    members = []
    for kind, ending in (("BMP", "bmp"), ("GIF", "gif"), ("TIFF", "tif"), ("JPEG2000", "jp2"), ("PNG", "PNG")):
        content = io.BytesIO()
        Image.new("RGB", (8, 8), (9, 9, 9)).save(content, kind)
        members.append((f"d/{ending.lower()}.{ending}", content.getvalue()))
    left = [("d/._bmp.bmp", b"junk"), ("__MACOSX/d/._x.png", b"junk"), ("@eaDir/x.png", png(1)), (".git/x.png", png(1))]
    source = opened(tar_with(tmp_path / "all.tar", [*members, *left]), cache=tmp_path)
    assert [source.key(index) for index in range(len(source))] == [
        f"all.tar/d/{name}" for name in ("bmp", "gif", "tif", "jp2", "png")
    ]
    assert "without an image" not in source.describe()


def test_shards_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    for part in ("train", "extra"):
        (tmp_path / part).mkdir()
        tar_with(tmp_path / part / "000.tar", [("a.png", png(1))])
    source = opened([str(tmp_path / part / "000.tar") for part in ("train", "extra")], cache=tmp_path)
    assert [source.key(index) for index in range(2)] == ["train/000.tar/a", "extra/000.tar/a"]
    (tmp_path / "again.tar").symlink_to(tmp_path / "train" / "000.tar")
    with pytest.raises(ValueError, match=r"000.tar and .*again.tar are the same file: mend data.shards"):
        opened([str(tmp_path / "train" / "000.tar"), str(tmp_path / "again.tar")], cache=tmp_path)
