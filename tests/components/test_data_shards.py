"""Tar shards: found, fetched, indexed once, and refused when they are not whole."""

from __future__ import annotations

import functools
import io
import json
import pickle
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import add_member, write_shards
from pydantic import ValidationError
from shard_files import opened, png

from latsem.backends.loader import BatchPlan, ImageFeed
from latsem.backends.pixel import PixelSpace
from latsem.backends.reading import training_batches
from latsem.components.data import index_cache, tar_index
from latsem.components.data.patterns import expand_braces
from latsem.components.registry import create


@pytest.fixture
def shards(photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return write_shards(photos)


def tar_of(path: Path, files: dict[str, bytes]) -> str:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            add_member(tar, name, content)
    return str(path)


def test_braces_count_and_list() -> None:
    assert expand_braces("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand_braces("{8..10}") == ["8", "9", "10"] and expand_braces("plain") == ["plain"]
    assert expand_braces("{a,b}{0..1}") == ["a0", "a1", "b0", "b1"]
    for wrong, named in [("{0..1", "other half"), ("{5..2}", "does not count up"), ("{0..999999}{0..9}", "10,000,000")]:
        with pytest.raises(ValueError, match=named):
            expand_braces(wrong)


@pytest.mark.parametrize("form", ["braces", "glob", "list"])
def test_a_shard_gives_the_same_images_as_the_folder_it_was_made_of(photos: Path, shards: Path, form: str) -> None:
    names: dict[str, object] = {
        "braces": f"{shards}/photos-{{000..003}}.tar",
        "glob": f"{shards}/photos-*.tar",
        "list": [f"{shards}/photos-{number:03d}.tar" for number in range(4)],
    }
    source, folder = opened(names[form]), create("data", "folder", root=photos)
    assert len(source) == 100 and source.num_classes == 2 and source.blocks == (25, 25, 25, 25)
    by_name = {Path(folder.key(index)).stem: index for index in range(100)}
    for index in (0, 24, 25, 60, 99):
        shard, _, key = source.key(index).partition("/")
        assert shard == f"photos-{index // 25:03d}.tar" and key == f"{index:03d}"
        for seed in (0, 1):
            image, label = source.item(index, seed)
            expected, expected_label = folder.item(by_name[key], seed)
            assert torch.equal(image, expected) and label == expected_label


def test_labels_are_optional_and_all_or_none(shards: Path, tmp_path: Path, photos: Path) -> None:
    plain = opened(f"{shards}/*.tar", labels="none")
    assert plain.num_classes == 0 and {plain.item(index, 0)[1] for index in range(100)} == {0}
    assert "unlabelled" in plain.describe()
    write_shards(photos, labelled=False)
    assert opened(f"{shards}/*.tar").num_classes == 0
    files = {"deep/a.json": b'{"label": 3}', "deep/a.jpg": png(1), "b.png": png(2), "b.cls": b"1\n", "b.json": b"{}"}
    both = opened(tar_of(tmp_path / "json.tar", files))
    assert [both.item(index, 0)[1] for index in range(2)] == [3, 1] and both.num_classes == 4
    assert [both.key(index) for index in range(2)] == ["json.tar/deep/a", "json.tar/b"]
    for wrong, named in [
        ({}, "is missing, as 1 of 2"),
        ({"b.cls": b"dog"}, "is no class"),
        ({"b.cls": b"-1"}, "is no class"),
    ]:
        name = tar_of(tmp_path / "wrong.tar", {"a.png": png(1), "a.cls": b"0", "b.png": png(2), **wrong})
        with pytest.raises(ValueError, match=f"the label of wrong.tar/b {named}"):
            opened(name)
        assert len(opened(name, labels="none")) == 2


def test_an_index_is_made_once_and_again_when_the_shard_changes(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned: list[str] = []

    def counting(path: Path) -> tar_index.TarIndex:
        scanned.append(path.name)
        return tar_index.scan(path)

    monkeypatch.setattr(index_cache, "scan", counting)
    first = opened(f"{shards}/*.tar")
    assert len(scanned) == 4 and len(list((tmp_path / "xdg" / "latsem" / "webdataset" / "indexes").glob("*.json"))) == 4
    assert opened(f"{shards}/*.tar").fingerprint() == first.fingerprint() and len(scanned) == 4
    tar_of(shards / "photos-001.tar", {"new.png": png(1), "new.cls": b"1"})
    changed = opened(f"{shards}/*.tar")
    assert scanned[4:] == ["photos-001.tar"] and len(changed) == 76 and changed.fingerprint() != first.fingerprint()
    for kept in (tmp_path / "xdg").rglob("*.json"):
        kept.write_text(kept.read_text()[:-5])
    assert len(opened(f"{shards}/*.tar")) == 76 and len(scanned) == 9, "a damaged index is made again"


def cut_in_an_image(content: bytes) -> bytes:
    return content[:-12_000]


def cut_between_members(content: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return content[: tar.getmembers()[20].offset]


def overwrite_a_header(content: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        place = tar.getmembers()[20].offset
    return content[:place] + b"x" * 512 + content[place + 512 :]


def claim_an_absurd_size(content: bytes) -> bytes:
    return make_header(2**40) + content


def claim_a_negative_size(content: bytes) -> bytes:
    return make_header(-(2**20)) + content


def make_header(size: int) -> bytes:
    member = tarfile.TarInfo("a.png")
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "damage",
    [
        cut_in_an_image,
        cut_between_members,
        overwrite_a_header,
        claim_an_absurd_size,
        claim_a_negative_size,
        lambda content: b"",
        lambda content: b"no tar" * 1000,
    ],
)
def test_a_shard_that_is_not_whole_is_named(shards: Path, damage: Callable[[bytes], bytes]) -> None:
    victim = shards / "photos-002.tar"
    victim.write_bytes(damage(victim.read_bytes()))
    with pytest.raises(ValueError, match=r"photos-002.tar: cut off or damaged \(.*\); write or fetch it again"):
        opened(f"{shards}/*.tar")


def test_members_are_never_more_than_names(tmp_path: Path) -> None:
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w") as tar:
        for kind, name in [
            (tarfile.SYMTYPE, "link.png"),
            (tarfile.DIRTYPE, "folder.png"),
            (tarfile.FIFOTYPE, "pipe.png"),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        add_member(tar, "../../outside.png", png(1))
        add_member(tar, "/absolute.seg.png", png(2))
        add_member(tar, ".png", png(3))
        add_member(tar, "big.json", b"[" * 100_000)
        add_member(tar, "\udcff.png", png(4))
    with pytest.warns(UserWarning, match="further dot"):
        source = opened(str(path), labels="none", cache=tmp_path / "cache", image_size=8)
    assert [source.key(index) for index in range(len(source))] == ["hostile.tar/../../outside", "hostile.tar/\\udcff"]
    assert "2 samples without an image" in source.describe() and int(source.item(1, 0)[0].max()) == 4
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cache", "hostile.tar"]


def test_damaged_images_are_replaced_and_a_shard_that_goes_is_an_error(shards: Path, tmp_path: Path) -> None:
    files = {f"{number}.png": png(number) if number != 2 else b"damaged" for number in range(5)}
    source = opened(tar_of(tmp_path / "some.tar", files), image_size=8, max_unreadable=0.3)
    with pytest.warns(UserWarning, match=r"some.tar/2 in 1 shard .*: damaged, left out"):
        assert int(source.item(2, 0)[0].max()) == 3
    gone = opened(f"{shards}/*.tar")
    (shards / "photos-000.tar").unlink()
    with (
        pytest.warns(UserWarning, match="No such file or directory, left out"),
        pytest.raises(OSError, match="2 of 100 image files"),
    ):
        gone.item(0, 0)


def test_an_open_source_can_be_sent_to_another_process_and_read_by_forked_ones(shards: Path) -> None:
    source = opened(f"{shards}/*.tar", image_size=16)
    image = source.item(3, 0)[0]
    sent = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert torch.equal(sent.item(3, 0)[0], image)
    feed, plan = ImageFeed(source, PixelSpace(create("tokenizer", "pixel"), None, 32)), BatchPlan(10, 1, 5)
    alone, shared = (
        list(training_batches(feed, plan, seed=0, rank=0, steps=range(5, 12), workers=workers, pin=False))
        for workers in (0, 2)
    )
    assert all(torch.equal(one["images"], other["images"]) for one, other in zip(alone, shared, strict=True))


def test_shards_sorted_by_class_are_warned_of(tmp_path: Path) -> None:
    files = {f"{number:02d}{end}": what for number in range(64) for end, what in sample(number, number // 32)}
    with pytest.warns(UserWarning, match="shows 1 of 2 classes"):
        opened(tar_of(tmp_path / "sorted.tar", files), cache=tmp_path)
    mixed = {f"{number:02d}{end}": what for number in range(64) for end, what in sample(number, number % 2)}
    assert opened(tar_of(tmp_path / "mixed.tar", mixed), cache=tmp_path).num_classes == 2


def sample(number: int, label: int) -> list[tuple[str, bytes]]:
    return [(".png", png(number)), (".cls", str(label).encode())]


@pytest.fixture
def server(shards: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(shards)))
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


def test_shards_are_fetched_once_and_kept(server: str, shards: Path, tmp_path: Path) -> None:
    address, cache = f"{server}/photos-{{000..003}}.tar", tmp_path / "kept"
    remote, local = opened(address, cache=cache), opened(f"{shards}/*.tar")
    assert f"4 shards fetched to {cache}" in remote.describe()
    assert all(torch.equal(remote.item(index, 1)[0], local.item(index, 1)[0]) for index in (0, 50, 99))
    copies = sorted(path.name.partition("-")[2] for path in (cache / "shards").glob("*.tar"))
    assert copies == [f"photos-{number:03d}.tar" for number in range(4)]
    assert not list(cache.rglob("*.part"))
    (shards / "photos-002.tar").unlink()
    assert len(opened(address, cache=cache)) == 100, "the copies do not need the server"
    assert len(opened(f"{server}/*.tar", cache=cache)) == 75
    with pytest.raises(ValueError, match=r"photos-002.tar: cannot be fetched \(FileNotFoundError"):
        opened(address, cache=tmp_path / "other")
    assert not [
        path for path in (tmp_path / "other").rglob("*") if path.suffix == ".part" or "002.tar" in path.name[-8:]
    ]


def test_a_download_that_ends_early_is_not_kept(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.local import LocalFileSystem

    def short(self: LocalFileSystem, source: str, target: str, **_: object) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:-1000])

    address = f"file://{shards}/photos-*.tar"
    with monkeypatch.context() as patched:
        patched.setattr(LocalFileSystem, "get_file", short)
        with pytest.raises(ValueError, match=r"photos-00\d.tar: [\d,]+ bytes came instead of"):
            opened(address, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.tar"))
    assert len(opened(address, cache=tmp_path / "cache")) == 100


def test_what_is_wrong_with_the_names_is_said_before_anything_is_read(shards: Path, tmp_path: Path) -> None:
    from latsem.components.data.settings import WebDatasetSettings

    def problem(shards: object) -> str:
        return " ".join(message for _, message in WebDatasetSettings.model_validate({"shards": shards}).problems())

    assert problem(f"{shards}/*.tar") == "" and problem("s3://bucket/{0..9}.tar") == ""
    assert f"there is no file {shards}/photos-004.tar (2 of 6 shards" in problem(f"{shards}/photos-{{000..005}}.tar")
    assert "compressed" in problem(f"{shards}/photos.tar.gz") and "other half" in problem("{0..1.tar")
    with pytest.raises(ValidationError, match="shards"):
        WebDatasetSettings.model_validate({"shards": []})
    with pytest.raises(ValueError, match="gunzip"):
        import gzip

        (tmp_path / "hidden.tar").write_bytes(gzip.compress((shards / "photos-000.tar").read_bytes()))
        opened(str(tmp_path / "hidden.tar"))
    with pytest.raises(ValueError, match="photos-001.tar is named twice, as 1 of 4: mend data.shards"):
        opened([f"{shards}/*.tar", f"{shards}/photos-001.tar"])
    with pytest.raises(ValueError, match="no image"):
        opened(tar_of(tmp_path / "empty.tar", {"notes.txt": b"text"}))
    assert WebDatasetSettings(shards=("x.tar",)).classes() is None
    assert WebDatasetSettings(shards=("x.tar",), expect_classes=7).classes() == 7
    assert json.loads(WebDatasetSettings(shards=("x.tar",)).model_dump_json())["shards"] == ["x.tar"]
