"""How the processes of one run begin, what they tell each other, and how they part."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable

from lightning_fabric import Fabric
from torch import Tensor, distributed

from ..components.messages import first_line
from .errors import UserError
from .hardware import make_fabric
from .settings import FabricSettings

MEETING = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
"""Environment variables by which processes find each other."""


def launch(settings: FabricSettings) -> Fabric:
    """Return Fabric once all processes of the run have begun, and have met.

    Raises:
        UserError: the settings do not fit this machine, or the place to meet is taken.
    """
    fabric = make_fabric(settings)
    before = {name: os.environ.get(name) for name in MEETING}
    try:
        fabric.launch()
    except distributed.DistError as error:
        for process in getattr(fabric.strategy.launcher, "procs", ()):
            process.kill()
        _set_environment(before)
        raise UserError(
            f"fabric: the processes of this run cannot meet: {first_line(error)}; "
            "start it again, with another MASTER_PORT if one is set"
        ) from None
    if fabric.world_size == 1:
        # A program that this one begins would take itself for one of these processes.
        _set_environment(before)
    return fabric


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


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


def leave(fabric: Fabric) -> None:
    """Leave the other processes in order: some back ends abort when one of them just ends.

    Several processes stay together until they end, for what else the program does: if they met again where they met
    before, each could take what the first meeting left there for an answer, and wait for ever.
    """
    if not _together():
        return
    fabric.barrier()
    if fabric.world_size == 1:
        _part()
    else:
        atexit.register(_part)


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _part() -> None:
    if _together():
        distributed.destroy_process_group()
