"""What every fusion is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Fusion(Protocol):
    """Joins embedded streams into the transformer's tokens, and finds each stream's tokens again.

    Attributes:
        grids: sides of the square token grids that lie one after another in the sequence.
    """

    grids: tuple[int, ...]

    def join(self, embedded: dict[str, Tensor]) -> Tensor:
        """Return tokens `(B, N, width)` of embedded streams `(B, n, width)`."""
        ...

    def split(self, tokens: Tensor) -> dict[str, Tensor]:
        """Return the tokens that each stream's head reads."""
        ...
