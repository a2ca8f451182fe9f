"""How statistics that several processes took of their shares become those of all images."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Merge(Protocol):
    """Puts together what every process has; all of them call it in the same order."""

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over processes."""
        ...

    def highest(self, values: Tensor) -> Tensor:
        """Return the highest over processes, entry by entry."""
        ...


class Alone:
    """One process has everything."""

    def sum(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values

    def highest(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values


ALONE: Merge = Alone()
