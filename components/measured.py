"""What is faster on this machine: measured once, and kept, so that it is the same in the next process."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from .atomic_files import replacing
from .user_cache import user_cache

ROUNDS = 7


def remembered(what: Mapping[str, Any], measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return what was measured, and measure it where it was not yet.

    What two processes measure at once counts as the first of them wrote it. Where nothing can be written it is measured
    by each.

    Args:
        what: everything that the numbers depend on.
    """
    text = json.dumps(what, sort_keys=True)
    path = user_cache() / "measured" / f"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}.json"
    found = _read(path)
    if found is None:
        found = measure()
        found = _keep(path, {"what": dict(what), "found": found}) or found
    return found


def seconds_of(candidates: Mapping[str, Callable[[], object]], device: torch.device) -> dict[str, float]:
    """Return the shortest seconds of calls that were made in turn, after one of each that does not count.

    What else a machine does only adds to them: the shortest is what would be measured again.
    """
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS + 1):
        for name, candidate in candidates.items():
            _wait(device)
            began = time.perf_counter()
            candidate()
            _wait(device)
            taken[name].append(time.perf_counter() - began)
    return {name: min(seconds[1:]) for name, seconds in taken.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _read(path: Path) -> dict[str, float] | None:
    try:
        return {name: float(value) for name, value in json.loads(path.read_text(encoding="utf-8"))["found"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _keep(path: Path, record: Mapping[str, Any]) -> dict[str, float] | None:
    """Write a record unless another process has, and return what is there now; None where nothing can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _read(path) is None:
            with replacing(path) as beside:
                beside.write_text(json.dumps(record), encoding="utf-8")
    except OSError:
        return None
    return _read(path)
