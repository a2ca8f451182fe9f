"""The scores that lie in a run folder: one file a step and protocol."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ..files import Shape, Text, UnreadableFile, read_json
from ..run_folder import RunFolder
from .protocol import EarlyProtocolShape, Protocol, ProtocolShape

Record = dict[str, Any]
"""`step`, `scores` and `better` by name, `protocol`, its `hash`, and the digest of the weights that were scored."""


class ScoresShape(Shape):
    """What every file of scores contains; those of early runs have no more than step and scores."""

    step: int = Field(ge=0)
    scores: dict[Text, float | None]
    better: dict[Text, Literal["lower", "higher"]] = Field(default_factory=dict)
    protocol: EarlyProtocolShape = Field(default_factory=EarlyProtocolShape)
    hash: Text | None = None


class RecordShape(ScoresShape):
    """What a file contains whose scores can be compared with others."""

    scores: dict[Text, float]  # type: ignore[assignment]
    protocol: ProtocolShape  # type: ignore[assignment]
    hash: Text
    weights_sha256: Text


SPREAD = "_std"
"""What the name of a score's spread ends with."""


def record_path(folder: RunFolder, record: Record) -> Path:
    """Return the file of a record."""
    return folder.evaluation / f"step-{record['step']:08d}-{record['hash']}.json"


def scores_of(folder: RunFolder) -> list[Record]:
    """Return all records of a run, by step; files without a protocol's hash are none, damaged ones are warned of."""
    found = (_read(path) for path in sorted(folder.evaluation.glob("step-*.json")))
    return [record for record in found if record is not None]


def _read(path: Path) -> Record | None:
    try:
        return read_json(path, RecordShape) if "hash" in read_json(path, ScoresShape) else None
    except UnreadableFile as error:
        warnings.warn(f"{error}; these scores are left out", stacklevel=2)
        return None


def score_lines(record: Record) -> Iterator[str]:
    """Yield the scores of a record and, shortly, how they came about: a person's lines."""
    yield from (f"{prefix or 'scores':<10} {', '.join(scores)}" for prefix, scores in _by_prefix(record).items())
    yield f"{'protocol':<10} {record['hash']}: {'; '.join(_protocol_words(record['protocol']))}"


def scores_in_a_line(record: Record) -> str:
    """Return the scores of a record in one line."""
    return "; ".join(f"{prefix} {', '.join(scores)}".lstrip() for prefix, scores in _by_prefix(record).items())


def _by_prefix(record: Record) -> dict[str, list[str]]:
    """Return scores with their spreads as words: those of images under an empty name, others by what they are of."""
    groups: dict[str, list[str]] = {}
    for name, value in record["scores"].items():
        prefix, _, metric = name.rpartition("/")
        if not name.endswith(SPREAD):
            spread = record["scores"].get(f"{name}{SPREAD}")
            beside = "" if spread is None else f" +- {spread:.2g}"
            groups.setdefault(prefix, []).append(f"{metric} {value:.4g}{beside}")
    return groups


def _protocol_words(protocol: Protocol) -> Iterator[str]:
    """Yield what a score depends on, as a person says it."""
    yield f"{protocol['samples']:,} images of {protocol['image']}, labels {protocol['labels']}, seed {protocol['seed']}"
    yield protocol["weights"]
    yield f"guidance {shown(protocol['guidance'])}"
    yield shown(protocol["sampler"]) + (f", {protocol['batch_size']} at once" if "batch_size" in protocol else "")
    yield f"{_network(protocol['extractor'])} ({protocol['resize']})"
    reference = protocol["reference"]
    against = f"{reference['images']:,} reference images" if reference["images"] else "moments of a reference"
    yield f"{against}, sha256 {reference['sha256'][:8]}"
    yield f"{protocol['precision']}, code {short_revision(protocol['code'])}"


def short_revision(revision: str) -> str:
    """Return a revision of the code as a person reads it, with `+` where the working tree differed."""
    return revision if " " in revision else revision[:8] + ("+" if revision.endswith("+") else "")


def _network(extractor: dict[str, Any]) -> str:
    """Return whose features are compared, and if they are an untrained network's."""
    network = extractor.get("network", {})
    name, inner = extractor["name"], network.get("name")
    random = extractor.get("pretrained", True) is False or network.get("pretrained", True) is False
    named = name if inner in (None, name) else f"{name} {inner}"
    pooling = " (mean)" if extractor.get("pooling") == "mean" else ""
    return f"{named}{pooling}{' with random weights' if random else ''}"


def shown(part: dict[str, Any]) -> str:
    """Return a part and its settings in a few words, without those that are not set."""
    settings = {key: value for key, value in part.items() if key != "name" and value is not None}
    return part["name"] + "".join(f" {key}={json.dumps(value)}" for key, value in settings.items())
