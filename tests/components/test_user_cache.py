"""The user's folders, also where there is no user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import write_shards

from latsem.components import user_cache
from latsem.components.data.index_cache import make_index
from latsem.components.data.tar_index import scan
from latsem.components.user_cache import NoHome, expanded
from latsem.recipes import load


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is no entry of /etc/passwd."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_what_is_kept_goes_with_the_process() -> None:
    folder = user_cache.user_cache()
    assert folder.is_dir() and folder == user_cache.user_cache() and os.access(folder, os.W_OK)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_a_tilde_is_one_line() -> None:
    assert expanded("photos") == Path("photos")
    with pytest.raises(NoHome, match=r"^~/photos: '~' stands for the home folder, and HOME is not set"):
        expanded("~/photos")
    with pytest.raises((NoHome, Exception), match="'~' stands for the home folder"):
        load("pixel_jit", ["data=folder", "data.root=~/photos"])


def test_an_index_that_cannot_be_kept_is_made_anyway(photos: Path, tmp_path: Path) -> None:
    shard = next(write_shards(photos).iterdir())
    (tmp_path / "file").touch()
    assert make_index(shard, tmp_path / "file" / "cache").dumps() == scan(shard).dumps()
