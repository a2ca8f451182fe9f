"""The folder of one cache: what made it, what is in it, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...components.encoders.encoder import Encoder
from ...components.tokenizers.tokenizer import Tokenizer
from ..errors import UserError
from ..files import write_json
from ..run_folder import differences
from ..tensor_files import save_tensors
from .shards import ShardRecord, remedy

FORMAT = 1
USE_NOT = "cache.use=never goes without"

Key = dict[str, Any]
"""Everything that decides what is stored: data, models with digests of their weights, forms."""


def weights_digest(network: Tokenizer | Encoder) -> str:
    """Return a digest of every tensor in the state of a frozen network."""
    digest = hashlib.sha256()
    module = cast(nn.Module, network)
    for name, value in sorted(module.state_dict().items()):
        plain = value.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


class CacheFolder:
    """Paths of one cache."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def manifest(self) -> Path:
        """Exists once the cache is whole: its key and its shards."""
        return self.path / "cache.json"

    @property
    def begun(self) -> Path:
        """The key under which shards are being written."""
        return self.path / "begun.json"

    @property
    def form_state(self) -> Path:
        """What the form of the features has measured."""
        return self.path / "form.safetensors"

    def key(self) -> Key | None:
        """Return what the cache was, or is being, made of; None if there is none.

        Raises:
            UserError: its description cannot be read.
        """
        for path in (self.manifest, self.begun):
            if path.is_file():
                return dict(self._read(path)["key"])
        return None

    def complete(self) -> bool:
        """Return whether all of it is there."""
        return self.manifest.is_file()

    def require(self, key: Key) -> None:
        """Accept a cache that is whole and was made of the same.

        Raises:
            UserError: it is not, and says what differs.
        """
        self.refuse_other(key)
        if not self.complete():
            raise UserError(f"{self.path}: this cache is not finished: the command that began it goes on, or {USE_NOT}")

    def refuse_other(self, key: Key) -> None:
        """Accept a cache that was made of the same, or none.

        Raises:
            UserError: it was made otherwise.
        """
        own = self.key()
        if own is not None and own != key:
            changed = "; ".join(differences(own, key))
            raise UserError(f"{self.path}: this cache was made otherwise ({changed}): {remedy(self.path)}")

    def begin(self, key: Key) -> None:
        """Note what shards are written under."""
        write_json(self.begun, {"format": FORMAT, "key": key})

    def finish(self, key: Key, shards: list[ShardRecord], notes: dict[str, float]) -> None:
        """Declare the cache whole."""
        records = [asdict(shard) for shard in shards]
        write_json(self.manifest, {"format": FORMAT, "key": key, "notes": notes, "shards": records})

    def shards(self) -> list[ShardRecord]:
        """Return the shards of a cache that is whole."""
        return [ShardRecord(**record) for record in self._read(self.manifest)["shards"]]

    def notes(self) -> dict[str, float]:
        """Return what was measured of a cache that is whole."""
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
        """Remove everything that belongs to the cache, its declaration of being whole first."""
        for path in (
            self.manifest,
            self.begun,
            self.form_state,
            *self.path.glob("shard-*"),
            *self.path.glob(".shard-*"),
        ):
            path.unlink(missing_ok=True)

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] != FORMAT:
                raise UserError(f"{path}: a cache of format {values['format']}, not {FORMAT}: {remedy(self.path)}")
            return values
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: damaged ({error}): {remedy(self.path)}") from None
