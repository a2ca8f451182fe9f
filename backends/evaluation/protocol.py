"""What a score depends on, apart from the weights: two scores are comparable if these are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from ..files import Shape, Text
from ..run_folder import differences

Protocol = dict[str, Any]


class _PartShape(Shape):
    name: Text


class _ExtractorShape(_PartShape):
    network: dict[Text, Any] = Field(default_factory=dict)


class _EarlyReferenceShape(Shape):
    images: int | None = None


class EarlyProtocolShape(Shape):
    """What a protocol in a file of an early run contains, if it contains it."""

    reference: _EarlyReferenceShape | None = None


class _ReferenceShape(Shape):
    images: int | None
    sha256: Text


class ProtocolShape(Shape):
    """What a protocol in a file contains at least: what is said of scores, and what comparing them takes."""

    sampler: _PartShape
    guidance: _PartShape
    weights: Text
    labels: Text | int
    samples: int
    image: Text
    extractor: _ExtractorShape
    resize: Text
    reference: _ReferenceShape
    seed: int
    precision: Text
    code: Text


Alike = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
"""Compares the protocol of a score that is there with one that is asked for."""

TOLD_APART = ("code", "semantic")
"""What is part of a protocol and its digest, but does not keep scores out of one column: the code's revision is said
below a table, and scores of semantic streams, which are of the runs' own features, are in none."""


def digest(protocol: Mapping[str, Any]) -> str:
    """Return eight hex digits that tell protocols apart."""
    return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:8]


def comparable(protocol: Mapping[str, Any]) -> Protocol:
    """Return what two scores must share to be compared: everything but `TOLD_APART`, and where data lie."""
    reference = {key: value for key, value in protocol["reference"].items() if key != "what"}
    return {key: value for key, value in protocol.items() if key not in TOLD_APART} | {"reference": reference}


def clashes(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return `key: one -> other` for everything that keeps two scores from being compared."""
    return differences(comparable(one), comparable(other))


def recipe_protocol(recipe: Mapping[str, Any]) -> Protocol:
    """Return the part of a recipe's own protocol that its values alone decide; no data or network is read for it."""
    evaluate = recipe["evaluate"]
    average = evaluate["weights"] == "average"
    return {
        "sampler": recipe["sampler"],
        "guidance": recipe["guidance"] if evaluate["guided"] else {"name": "none"},
        "weights": f"moving average, decay {recipe['train']['ema']}" if average else "last step's",
        "samples": evaluate["samples"],
        "metrics": evaluate["metrics"],
        "seed": evaluate["seed"],
    }


def follows(protocol: Mapping[str, Any], recipe: Mapping[str, Any]) -> bool:
    """Return whether a score was made by a recipe's own protocol, as far as the recipe's values tell.

    Values that one of the two lacks are not compared: another version may have written it.
    """
    try:
        evaluate = recipe["evaluate"]
        asked = {**recipe_protocol(recipe), "extractor": evaluate["extractor"]}
        same_labels = protocol.get("labels") in (None, "none", evaluate["labels"])
        return same_labels and _agree(protocol, asked) and _same_reference(protocol.get("reference") or {}, recipe)
    except (AttributeError, KeyError, TypeError):
        # A file that was damaged, or written before there was such a value.
        return False


def _same_reference(reference: Mapping[str, Any], recipe: Mapping[str, Any]) -> bool:
    asked, what = recipe["evaluate"]["reference"], reference.get("what")
    if asked.get("file"):
        return bool(what == Path(asked["file"]).name)
    other = {"name": "folder", "root": asked["folder"]} if asked.get("folder") else asked.get("data")
    # A source with fewer images than are asked for is taken whole.
    return _agree(what or {}, other or recipe["data"]) and reference.get("images", 0) <= asked["images"]


def _agree(one: Any, other: Any) -> bool:
    """Return whether two JSON values are the same wherever both say something."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(_agree(one[key], other[key]) for key in one.keys() & other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_agree, one, other))
    return bool(one == other)


def answers(protocol: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Return whether a score that is there is the one that is asked for.

    A key that only one of them has counts as null: the setting is newer than the score.

    Args:
        asked: without the digest of a reference whose images have not been read; what is known of it has to agree.
    """
    known = {key: protocol["reference"].get(key) for key in asked["reference"]}
    return not differences({**protocol, "reference": known}, asked)


def matches(protocol: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Return the same as `answers`, whatever is different of `TOLD_APART`."""
    one, other = ({key: value for key, value in each.items() if key not in TOLD_APART} for each in (protocol, asked))
    return answers(one, other)
