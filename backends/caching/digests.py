"""Digests of what decides the contents of a cache."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

MEASURED = "normalization."
"""Of a tokenizer's state: what is measured on the data of a run. It is applied to codes, and does not change them."""


def weights_digest(network: Any) -> str:
    """Return a digest of every tensor in the state of a frozen network, and of its code where that is a plug-in's."""
    digest = hashlib.sha256(plugin_code(network).encode())
    for name, value in sorted(cast(nn.Module, network).state_dict().items()):
        if name.startswith(MEASURED):
            continue
        plain = value.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def plugin_code(part: Any) -> str:
    """Return a digest of the file that defines a plug-in's class; empty for the classes of this package."""
    module = type(part).__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    if module.startswith("latsem.") or file is None:
        return ""
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=8).hexdigest()


def address(key: dict[str, Any]) -> str:
    """Return the digest of a key that is part of its folder's name."""
    return hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=6).hexdigest()
