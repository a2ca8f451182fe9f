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
from .folder import Store
from .forms import FeatureForm
from .job import CODE, FEATURES, tensors_of
from .shards import KEYS, ShardReader, ShardRecord, key_numbers, remedy


class CachedFeed:
    """What was stored of every image of a source, in the source's order.

    Args:
        stores: the codes and, where there is a form, the features.

    Raises:
        UserError: a shard is missing, cut off or incomplete, or an entry belongs to another image.
    """

    def __init__(self, stores: Sequence[Store], source: Source, tokenizer: Tokenizer, form: FeatureForm | None) -> None:
        self.source, self.tokenizer, self.form = source, tokenizer, form
        self.readers = {store.tensor: StoreReader(store, source) for store in stores}

    def __len__(self) -> int:
        return len(self.source)

    def read(self, keys: Sequence[Key]) -> Batch:
        """Return the entries of some images."""
        batch = {LABEL: self.readers[CODE].labels(keys)}
        return batch | {name: reader.entries(keys) for name, reader in self.readers.items()}

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

    def compare_sums(self) -> None:
        """Compare the contents of every file with what was written; all of them are read.

        Raises:
            UserError: a file is damaged.
        """
        for reader in self.readers.values():
            damaged = reader.store.folder.damaged()
            if damaged:
                more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
                raise UserError(
                    f"{reader.store.folder.path / damaged[0]}{more}: damaged (its sha256 is not the recorded one): "
                    "'latsem cache RECIPE' makes it again, cache.use=never trains without it"
                )


class StoreReader:
    """Reads one store: each entry is copied once, out of its file's memory map into the batch.

    Raises:
        UserError: as `CachedFeed`.
    """

    def __init__(self, store: Store, source: Source) -> None:
        self.store, self.source, self.path = store, source, store.folder.path
        self.records = store.folder.shards()
        self._readers: dict[int, ShardReader] = {}
        self._check()

    def labels(self, keys: Sequence[Key]) -> Tensor:
        """Return the labels `(n,)` of images."""
        places = (divmod(index, self.records[0].images) for index, _ in keys)
        return torch.stack([self._reader(shard).tensors[LABEL][place] for shard, place in places])

    def entries(self, keys: Sequence[Key]) -> Tensor:
        """Return what is stored `(n, ...)` of images, of the variant that the seed chooses."""
        variants, found = self.source.variants, []
        for index, seed in keys:
            shard, place = divmod(index, self.records[0].images)
            found.append(self._reader(shard).tensors[self.store.tensor][place * variants + seed % variants])
        return torch.stack(found)

    def __getstate__(self) -> dict[str, Any]:
        # Memory maps stay in their process; another one opens its own.
        return {**self.__dict__, "_readers": {}}

    def _reader(self, shard: int) -> ShardReader:
        if shard not in self._readers:
            self._readers[shard] = self._open(self.records[shard])
        return self._readers[shard]

    def _open(self, record: ShardRecord) -> ShardReader:
        return ShardReader(self.path / record.file, record)

    def _check(self) -> None:
        expected = 0
        for record in self.records:
            if record.first != expected:
                raise UserError(f"{self.path}: images {expected} to {record.first} are missing: {remedy(self.path)}")
            self._check_shard(record)
            expected += record.images
        if expected != len(self.source):
            raise UserError(f"{self.path}: {expected} images, and the data has {len(self.source)}: {remedy(self.path)}")

    def _check_shard(self, record: ShardRecord) -> None:
        reader, path, wanted = self._open(record), self.path / record.file, tensors_of(self.store.tensor)
        if reader.tensors.keys() != wanted:
            raise UserError(f"{path}: holds {sorted(reader.tensors)}, not {sorted(wanted)}: {remedy(self.path)}")
        keys = [self.source.key(index) for index in range(record.first, record.first + record.images)]
        wrong = (reader.tensors[KEYS] != key_numbers(keys)).nonzero() if len(reader.tensors[KEYS]) == len(keys) else [0]
        if len(wrong):
            raise UserError(f"{path}: has no entry for '{keys[int(wrong[0])]}': {remedy(self.path)}")
