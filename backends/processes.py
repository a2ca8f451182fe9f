"""What processes of one run tell each other."""

from __future__ import annotations

from collections.abc import Callable

from lightning_fabric import Fabric
from torch import Tensor

from .errors import UserError


class FabricMerge:
    """Merges statistics over the processes of Fabric, on its device: back ends of GPUs take no other tensors."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over processes."""
        return self._reduced(values, "sum")

    def highest(self, values: Tensor) -> Tensor:
        """Return the highest over processes, entry by entry."""
        return self._reduced(values, "max")

    def _reduced(self, values: Tensor, how: str) -> Tensor:
        if self.fabric.world_size == 1:
            return values
        merged: Tensor = self.fabric.all_reduce(values.clone(), reduce_op=how)
        return merged


def in_first(fabric: Fabric, act: Callable[[], None]) -> None:
    """Do something in the first process; a mistake that it finds there ends all of them alike.

    Raises:
        UserError: what the first process met.
    """
    problems: tuple[str, ...] = ()
    if fabric.is_global_zero:
        try:
            act()
        except UserError as error:
            problems = error.problems
    problems = fabric.broadcast(problems)
    if problems:
        raise UserError(*problems)
