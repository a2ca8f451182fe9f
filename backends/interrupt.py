"""A signal ends a step, not a run; what can be done again is not waited for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
"""Ctrl-C, the end of a job or a pre-emption, what SLURM sends ahead of it with `--signal`, and a closed terminal."""

HANG_UP = getattr(signal, "SIGHUP", None)
"""A closing terminal sends it more than once (the system and the shell do), systemd beside SIGTERM. So it asks to stop
like the others, but never counts as the second request. Under `nohup` it stays ignored."""


class _CutOff(BaseException):
    """A signal came where what is done is done again later."""


class StopRequest:
    """Turns the first signal into a request that the loop looks at; a second one ends the process at once.

    Attributes:
        signal: number of the signal that asked; 0 if none did.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, object] = {}
        self._cuts_off = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number == HANG_UP and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def let(self, act: Callable[[], None]) -> bool:
        """Do something that a signal cuts off or keeps from beginning; return whether it came to its end."""
        before = self._cuts_off
        try:
            # Two blocks: the signal may come while the inner one ends.
            try:
                self._cuts_off = True
                if self.signal:
                    return False
                act()
            finally:
                self._cuts_off = before
        except _CutOff:
            return False
        return True

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal and number == HANG_UP:
            return
        if self.signal not in (0, HANG_UP):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = number
        if self._cuts_off:
            self._cuts_off = False
            raise _CutOff
