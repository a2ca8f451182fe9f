"""The sets of weights that a checkpoint file holds, and which of them is a moving average.

People keep averages as `ema`, `model_ema`, `ema_model`, `ema_state_dict`, `state_dict_ema`, `model_ema1`, or in the one
dict of a Lightning module, as `ema_model.blocks...`. What tells one is the word in its name, wherever that is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...components.weights import below, listed, prefixes, without_inserted

DEEPEST = 4
PLAIN = "state dict"
"""What a file's only weights are called, where they lie at its top."""

LIVE = ("model", "state_dict", "module", "net", "online_model")
"""Names of weights as they were trained, the likeliest first."""

_AVERAGE = re.compile(r"(?:^|[\W_\d])(?:ema|average|averaged|swa)(?:$|[\W_\d])")


@dataclass(frozen=True)
class WeightSet:
    """Weights of one network.

    Attributes:
        name: where they lie in the file: `ema`, `state_dict/model`.
        tensors: by the network's own names.
    """

    name: str
    tensors: dict[str, Tensor]

    @property
    def average(self) -> bool:
        """Whether the name is one of a moving average."""
        return is_average(self.name)

    @property
    def rank(self) -> tuple[bool, int, str]:
        """What orders sets by how much they are worth: averages, the shortest name first, then what was trained."""
        last = self.name.rpartition("/")[2]
        likely = LIVE.index(last) if last in LIVE else len(LIVE)
        return (not self.average, len(self.name) if self.average else likely, self.name)


def is_average(name: str) -> bool:
    """Return whether a name is one of a moving average."""
    return _AVERAGE.search(name.lower()) is not None


def weight_sets(values: Any, anchors: Collection[str]) -> list[WeightSet]:
    """Return every set of weights of a network in a checkpoint, the one to take first.

    Args:
        values: what the file holds: tensors by name, or dicts of such.
        anchors: names that the network has whatever its size; a set has most of them.

    Raises:
        ValueError: a set has a name twice.
    """
    found = [each for name, tensors in _dicts(values, "", DEEPEST) for each in _split(name, tensors, anchors)]
    return sorted(found, key=lambda each: each.rank)


def chosen(sets: list[WeightSet], named: str | None) -> WeightSet:
    """Return the set of a name, or the one to take where none is named.

    Raises:
        ValueError: there is none of that name; one clause.
    """
    if named is None:
        return sets[0]
    for each in sets:
        if named in (each.name, each.name.rpartition("/")[2]):
            return each
    raise ValueError(f"has no weights {named!r} (it has {listed(each.name for each in sets)})")


def _dicts(values: Any, name: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the dicts of tensors in a file, each with its place."""
    if not isinstance(values, Mapping) or not depth:
        return
    tensors = {key: item.detach() for key, item in values.items() if isinstance(key, str) and isinstance(item, Tensor)}
    if tensors:
        yield name, tensors
    for key, item in values.items():
        if isinstance(key, str):
            yield from _dicts(item, f"{name}/{key}".lstrip("/"), depth - 1)


def _split(name: str, tensors: Mapping[str, Tensor], anchors: Collection[str]) -> Iterator[WeightSet]:
    """Yield the sets in one dict: one below each prefix behind which the network is found."""
    tensors = without_inserted(tensors)
    for prefix, count in prefixes(tensors, anchors).items():
        if 2 * count > len(anchors):
            # What distributed training wraps a model in says nothing of which model it is.
            outer = prefix.removesuffix(".").removesuffix("module").removesuffix(".")
            yield WeightSet("/".join(filter(None, (name, outer))) or PLAIN, below(tensors, prefix))
