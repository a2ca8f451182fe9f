"""How the processes of one run begin, and how they part."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_fabric import Fabric
from torch import distributed

from ..components.messages import first_line
from .errors import UserError
from .hardware import make_fabric
from .settings import FabricSettings

MEETING = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
"""Environment variables by which processes find each other."""

FIRST = "LATSEM_FIRST_PROCESS"
"""Environment variable that tells a process which one began it; there only while they meet."""


def launch(settings: FabricSettings) -> Fabric:
    """Return Fabric once all processes of the run have begun, and have met.

    Raises:
        UserError: the settings do not fit this machine, or the place to meet is taken.
    """
    fabric = make_fabric(settings)
    before = {name: os.environ.get(name) for name in MEETING}
    try:
        with _not_without_the_first():
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


@contextmanager
def _not_without_the_first() -> Iterator[None]:
    """End a process that another one began if that one ends meanwhile: torch would wait for it half an hour."""
    first, met = os.environ.get(FIRST), threading.Event()
    os.environ[FIRST] = str(os.getpid())
    if first is not None:
        threading.Thread(target=_end_without, args=(int(first), met), daemon=True).start()
    try:
        yield
    finally:
        met.set()
        del os.environ[FIRST]


def _end_without(first: int, met: threading.Event) -> None:
    while not met.wait(1):
        if os.getppid() != first:
            os._exit(1)


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


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
