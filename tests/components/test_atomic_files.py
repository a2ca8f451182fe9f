"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch

from latsem.backends.files import write_atomically
from latsem.backends.tensor_files import save_tensors
from latsem.components import atomic_files
from latsem.components.atomic_files import replacing


def test_the_old_content_stays_until_the_new_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is flushed before it takes its place, and the folder after that."""
    path, flushed, fsync = tmp_path / "file", [], os.fsync
    path.write_text("old")

    def watched(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        flushed.append((folder, path.read_text()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    with replacing(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert flushed == [(False, "old"), (True, "new")] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [OSError("full"), ValueError(), KeyboardInterrupt()])
def test_nothing_is_left_of_a_file_that_could_not_be_written(failure: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(type(failure)), replacing(path) as beside:
        beside.write_text("half")
        raise failure
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_flushed_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(descriptor: int) -> None:
        raise OSError(atomic_files.NO_FLUSH[0], "not here")

    monkeypatch.setattr(os, "fsync", refused)
    write_atomically(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o002, 0o664)])
def test_modes_follow_the_umask_whichever_library_writes(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "text.json", "{}")
        save_tensors({"a": torch.zeros(2)}, tmp_path / "tensors.safetensors")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


def test_names_that_are_not_utf8_are_written_with_escapes(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", os.fsdecode(b"caf\xe9 \xc3\xa9"))
    assert (tmp_path / "file").read_text(encoding="utf-8") == "caf\\udce9 \u00e9"
