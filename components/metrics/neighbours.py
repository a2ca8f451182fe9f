"""Distances between vectors, block by block: no matrix of all pairs is ever there."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

AT_ONCE = 2048
"""Vectors of either set that are compared at once."""

ROUNDING = 1e-12
"""Share of the squared lengths of two vectors that the square of their distance is known to in float64.

Distances that equal a radius are common where vectors are repeated, and blocks of another size round them otherwise.
What is this close counts as equal, so that no score depends on the blocks.
"""


def reach(vectors: Tensor, k: int, at_once: int = AT_ONCE) -> Tensor:
    """Return the squared distances `(N,)`, float64, of vectors `(N, D)` to their k-th nearest other; N is above k."""
    found = []
    for start in range(0, len(vectors), at_once):
        rows = vectors[start : start + at_once].double()
        nearest = rows.new_full((len(rows), k), torch.inf)
        for across in range(0, len(vectors), at_once):
            squared = _squared(rows, vectors[across : across + at_once].double())
            if across == start:
                squared.fill_diagonal_(torch.inf)
            nearest = torch.cat([nearest, squared], 1).topk(k, largest=False).values
        found.append(nearest[:, -1])
    return torch.cat(found)


def compared(
    first: Tensor, second: Tensor, *, closed: bool, at_once: int = AT_ONCE
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield rows of `(N, D)`, rows of `(M, D)`, and the squared distances between them, float64.

    Args:
        first: vectors `(N, D)`.
        second: vectors `(M, D)`.
        closed: whether equal distances are to be told by `<=`, or by `<`: they are a rounding error shorter, or longer,
            so that either says of a distance and a `reach` what it says of exact ones.
        at_once: vectors of either set that are compared at once; it decides the memory and nothing else.
    """
    margin = -ROUNDING if closed else ROUNDING
    for start in range(0, len(first), at_once):
        rows = first[start : start + at_once].double()
        for across in range(0, len(second), at_once):
            columns = second[across : across + at_once].double()
            yield (
                slice(start, start + len(rows)),
                slice(across, across + len(columns)),
                _squared(rows, columns, margin),
            )


def _squared(rows: Tensor, columns: Tensor, margin: float = 0.0) -> Tensor:
    lengths = rows.square().sum(1)[:, None] + columns.square().sum(1)
    return torch.addmm(lengths.mul_(1 + margin), rows, columns.T, alpha=-2)
