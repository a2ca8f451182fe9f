"""The folder of one store of a cache: what made it, what is in it, and whether it is whole.

A store holds one thing of every image: the codes of a tokenizer, or the features of an encoder. It is named by what
made it, so that recipes which need the same share it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...components.data.record import SourceRecord
from ...components.data.source import Source
from ..errors import UserError
from ..files import Shape, UnreadableFile, read_json, write_json
from ..run_folder import differences
from ..tensor_files import save_tensors, sha256_of
from .digests import address
from .shards import ShardRecord, remedy

FORMAT = 2
USE_NOT = "cache.use=never trains without it"

MANIFEST = "cache.json"

SUMMED_AT_ONCE = 4
"""Shards whose sums are computed at a time: a core digests about 1 GB/s, a disk gives several."""

Key = dict[str, Any]
"""Everything that decides what is stored: data, model with a digest of its weights, form."""


class CacheFolder:
    """Paths of one store."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def manifest(self) -> Path:
        """Exists once the store is whole: its key, its data and its shards."""
        return self.path / MANIFEST

    @property
    def begun(self) -> Path:
        """The key under which shards are being written."""
        return self.path / "begun.json"

    @property
    def form_state(self) -> Path:
        """What the form of the features has measured."""
        return self.path / "form.safetensors"

    def key(self) -> Key | None:
        """Return what the store was, or is being, made of; None if there is none.

        Raises:
            UserError: its description cannot be read.
        """
        found = self._description()
        return None if found is None else dict(found["key"])

    def record(self) -> SourceRecord:
        """Return what the data were of which the store was, or is being, made.

        Raises:
            UserError: there is no description, or it cannot be read.
        """
        try:
            return SourceRecord.from_json((self._description() or {})["data"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path}: damaged ({error}): {remedy(self.path)}") from None

    def complete(self) -> bool:
        """Return whether all of it is there."""
        return self.manifest.is_file()

    def require(self, key: Key, source: Source) -> None:
        """Accept a store that is whole and was made of the same.

        Raises:
            UserError: it is not, and says what differs.
        """
        self.refuse_other(key, source)
        if not self.complete():
            raise UserError(
                f"{self.path}: this cache is not finished: repeat the 'latsem cache' command that began it; {USE_NOT}"
            )

    def refuse_other(self, key: Key, source: Source) -> None:
        """Accept a store that was made of the same, or none.

        Raises:
            UserError: it was made otherwise, or of images that have been changed since.
        """
        found = self._description()
        if found is None:
            return
        changed = differences(found["key"], key) or self.record().compare(source)[0]
        if changed:
            raise UserError(f"{self.path}: this cache was made otherwise ({'; '.join(changed)}): {remedy(self.path)}")

    def begin(self, key: Key, record: SourceRecord) -> None:
        """Note what shards are written under."""
        write_json(self.begun, {"format": FORMAT, "key": key, "data": record.to_json()})
        self.manifest.unlink(missing_ok=True)

    def finish(self, key: Key, record: SourceRecord, shards: list[ShardRecord], notes: dict[str, float]) -> None:
        """Declare the store whole."""
        values = {"format": FORMAT, "key": key, "data": record.to_json(), "notes": notes}
        values["form_sha256"] = sha256_of(self.form_state) if self.form_state.is_file() else ""
        write_json(self.manifest, {**values, "shards": [asdict(shard) for shard in shards]})

    def shards(self) -> list[ShardRecord]:
        """Return the shards of a store that is whole.

        Raises:
            UserError: their list is damaged.
        """
        found = self._read(self.manifest)
        try:
            return [ShardRecord(**record) for record in found["shards"]]
        except (TypeError, KeyError) as error:
            raise UserError(f"{self.manifest}: damaged ({error}): {remedy(self.path)}") from None

    def damaged(self) -> list[str]:
        """Return the files of a store that is whole whose contents are not what was written; all are read."""

        def is_damaged(record: ShardRecord) -> bool:
            path = self.path / record.file
            return not path.is_file() or path.stat().st_size != record.bytes or sha256_of(path) != record.sha256

        records = self.shards()
        with ThreadPoolExecutor(SUMMED_AT_ONCE) as pool:
            found = [record.file for record, bad in zip(records, pool.map(is_damaged, records), strict=True) if bad]
        form = self._read(self.manifest).get("form_sha256")
        if form and (not self.form_state.is_file() or sha256_of(self.form_state) != form):
            found.append(self.form_state.name)
        return found

    def notes(self) -> dict[str, float]:
        """Return what was measured of a store that is whole."""
        return dict(self._read(self.manifest)["notes"])

    def save_form(self, state: dict[str, Tensor]) -> None:
        """Keep what the form has measured."""
        save_tensors(state, self.form_state)

    def load_form(self) -> dict[str, Tensor]:
        """Return what the form has measured.

        Raises:
            UserError: the file is missing or damaged.
        """
        try:
            return load_file(self.form_state)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{self.form_state}: missing or damaged ({error}): {remedy(self.path)}") from None

    def clear(self) -> None:
        """Remove everything that belongs to the store, its declaration of being whole first."""
        for path in (
            self.manifest,
            self.begun,
            self.form_state,
            *self.path.glob("shard-*"),
            *self.path.glob(".shard-*"),
        ):
            path.unlink(missing_ok=True)

    def _description(self) -> dict[str, Any] | None:
        for path in (self.manifest, self.begun):
            if path.is_file():
                return self._read(path)
        return None

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            values = read_json(path, _StoreShape)
        except UnreadableFile as error:
            raise UserError(f"{error}: {remedy(self.path)}") from None
        if values["format"] != FORMAT:
            raise UserError(f"{path}: a cache of format {values['format']}, not {FORMAT}: {remedy(self.path)}")
        return values


class _StoreShape(Shape):
    format: int
    key: dict[str, Any]
    notes: dict[str, float] = Field(default_factory=dict)
    shards: list[dict[str, Any]] = Field(default_factory=list)


@dataclass(frozen=True)
class Store:
    """One store that a recipe needs.

    Attributes:
        tensor: name of what it holds of every image.
    """

    tensor: str
    folder: CacheFolder
    key: Key

    @classmethod
    def below(cls, root: Path, tensor: str, name: str, key: Key) -> Store:
        """Return the store of a key below the folder of all caches, named for people and by its key."""
        words = re.sub(r"[^\w.-]+", "-", name)
        return cls(tensor, CacheFolder(root / f"{words}-{address(key)}"), key)


def stores_below(root: Path) -> Iterator[CacheFolder]:
    """Yield the stores that are whole, as far as they can be read, below the folder of all caches."""
    for path in sorted(root.glob(f"*/{MANIFEST}")):
        folder = CacheFolder(path.parent)
        try:
            folder.key()
        except UserError:
            continue
        yield folder
