"""What a score depends on, apart from the weights: two scores are comparable if these are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from ..run_folder import differences

Protocol = dict[str, Any]

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


def answers(protocol: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Return whether a score that is there is the one that is asked for.

    Args:
        asked: without the digest of a reference whose images have not been read; what is known of it has to agree.
    """
    known = {key: protocol["reference"].get(key) for key in asked["reference"]}
    return {**protocol, "reference": known} == asked


def matches(protocol: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Return the same as `answers`, whatever is different of `TOLD_APART`."""
    one, other = ({key: value for key, value in each.items() if key not in TOLD_APART} for each in (protocol, asked))
    return answers(one, other)
