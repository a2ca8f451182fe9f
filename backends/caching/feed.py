"""Training batches from a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...components.data.source import Source
from ...components.tokenizers.tokenizer import Tokenizer
from ..errors import UserError
from ..loader import LABEL, Batch, Key
from ..space import Encoded
from .folder import CacheFolder
from .forms import FeatureForm
from .job import CODE, FEATURES
from .shards import KEYS, ShardReader, ShardRecord, key_numbers, remedy


class CachedFeed:
    """What was stored of every image of a source, in the source's order.

    Raises:
        UserError: a shard is missing, cut off or incomplete, or an entry belongs to another image.
    """

    def __init__(self, folder: CacheFolder, source: Source, tokenizer: Tokenizer, form: FeatureForm | None) -> None:
        self.folder, self.source, self.tokenizer, self.form = folder, source, tokenizer, form
        self.records = folder.shards()
        self._readers: dict[int, ShardReader] = {}
        self._check()

    def __len__(self) -> int:
        return len(self.source)

    def read(self, keys: Sequence[Key]) -> Batch:
        """Return the entries of some images: each is copied once, out of its file's memory map into the batch."""
        variants = self.source.variants
        labels, rest = [], []
        for index, seed in keys:
            shard, place = divmod(index, self.records[0].images)
            tensors = self._reader(shard).tensors
            labels.append(tensors[LABEL][place])
            rest.append((tensors, place * variants + seed % variants))
        names = (CODE,) if self.form is None else (CODE, FEATURES)
        stored = {name: torch.stack([tensors[name][entry] for tensors, entry in rest]) for name in names}
        return {LABEL: torch.stack(labels), **stored}

    def encode(self, batch: Batch) -> Encoded:
        """Return what was stored, as the model takes it."""
        restored = {} if self.form is None else vars(self.form.unpack(batch[FEATURES]))
        return Encoded(code=self.code(batch), **restored)

    def code(self, batch: Batch) -> Tensor:
        """Return the stored codes."""
        return self.tokenizer.restore(batch[CODE])

    def features(self, batch: Batch) -> Tensor | None:
        """Return the stored features, None where they were projected first."""
        return None if self.form is None else self.form.unpack(batch[FEATURES]).features

    def __getstate__(self) -> dict[str, Any]:
        # Memory maps stay in their process; another one opens its own.
        return {**self.__dict__, "_readers": {}}

    def _reader(self, shard: int) -> ShardReader:
        if shard not in self._readers:
            self._readers[shard] = self._open(self.records[shard])
        return self._readers[shard]

    def _open(self, record: ShardRecord) -> ShardReader:
        return ShardReader(self.folder.path / record.file, record)

    def _check(self) -> None:
        expected = 0
        for record in self.records:
            if record.first != expected:
                raise UserError(
                    f"{self.folder.path}: images {expected} to {record.first} are missing: {self._remedy()}"
                )
            self._check_shard(record)
            expected += record.images
        if expected != len(self.source):
            raise UserError(
                f"{self.folder.path}: {expected} images, and the data has {len(self.source)}: {self._remedy()}"
            )

    def _check_shard(self, record: ShardRecord) -> None:
        reader = self._open(record)
        path = self.folder.path / record.file
        wanted = {KEYS, LABEL, CODE} | ({FEATURES} if self.form is not None else set())
        if reader.tensors.keys() != wanted:
            raise UserError(f"{path}: holds {sorted(reader.tensors)}, not {sorted(wanted)}: {self._remedy()}")
        keys = [self.source.key(index) for index in range(record.first, record.first + record.images)]
        wrong = (reader.tensors[KEYS] != key_numbers(keys)).nonzero() if len(reader.tensors[KEYS]) == len(keys) else [0]
        if len(wrong):
            raise UserError(f"{path}: has no entry for '{keys[int(wrong[0])]}': {self._remedy()}")

    def _remedy(self) -> str:
        return remedy(self.folder.path)
