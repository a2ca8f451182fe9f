"""The scores that lie in a run folder: one file a step and protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..run_folder import RunFolder

Record = dict[str, Any]
"""`step`, `scores` and `better` by name, `protocol`, its `hash`, and the digest of the weights that were scored."""


def record_path(folder: RunFolder, record: Record) -> Path:
    """Return the file of a record."""
    return folder.evaluation / f"step-{record['step']:08d}-{record['hash']}.json"


def scores_of(folder: RunFolder) -> list[Record]:
    """Return all records of a run, by step; files without a protocol's hash are none."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.evaluation.glob("step-*.json"))]
    return [record for record in found if "hash" in record]


def score_lines(record: Record) -> Iterator[str]:
    """Yield the scores of a record and, shortly, how they came about: a person's lines."""
    names = list(record["scores"])
    width = max(map(len, names))
    for name in names:
        spread = record["scores"].get(f"{name}_std")
        if not name.endswith("_std"):
            yield f"{name:<{width}}  {record['scores'][name]:.4g}" + (f" +- {spread:.2g}" if spread is not None else "")
    protocol = record["protocol"]
    yield (
        f"{protocol['samples']:,} images, guidance {shown(protocol['guidance'])}, {shown(protocol['sampler'])}, labels "
        f"{protocol['labels']}, {protocol['extractor']['name']}, {protocol['reference']['images']:,} reference images, "
        f"protocol {record['hash']}"
    )


def shown(part: dict[str, Any]) -> str:
    """Return a part and its settings in a few words."""
    settings = {key: value for key, value in part.items() if key != "name"}
    return part["name"] + "".join(f" {key}={json.dumps(value)}" for key, value in settings.items())
