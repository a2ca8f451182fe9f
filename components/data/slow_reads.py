"""Says which file is waited for, where a disk or a network does not answer.

A read that hangs in the system can be neither bounded nor ended from outside; what it hangs on can be told.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..messages import printable

PATIENCE = 30.0
"""Seconds after which a read is reported, then after twice as many, and so on (our choice)."""


class SlowReads:
    """Watches the reads of a process from a thread that lives while there are some."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._reads: dict[int, tuple[str, float]] = {}
        self._watcher: threading.Thread | None = None
        if hasattr(os, "register_at_fork"):
            # Reads of other threads are not those of a process that was forked meanwhile.
            os.register_at_fork(after_in_child=self._reads.clear)

    @contextmanager
    def watched(self, path: str) -> Iterator[None]:
        """Report a read of a file or folder that takes long."""
        thread = threading.get_ident()
        outer = self._reads.get(thread)
        self._reads[thread] = path, time.monotonic()
        # A process that was forked has no watcher of its own yet.
        if self._watcher is None or not self._watcher.is_alive():
            self._watcher = threading.Thread(target=self._watch, name="slow-reads", daemon=True)
            self._watcher.start()
        try:
            yield
        finally:
            if outer is None:
                self._reads.pop(thread, None)
            else:
                self._reads[thread] = outer

    def _watch(self) -> None:
        told: dict[tuple[str, float], float] = {}
        idle = 0
        while idle < 2:
            time.sleep(self.patience / 3)
            reads = list(self._reads.values())
            idle = 0 if reads else idle + 1
            told = {read: told.get(read, self.patience) for read in reads}
            for read, due in told.items():
                path, begun = read
                waited = time.monotonic() - begun
                if waited >= due:
                    told[read] = 2 * due
                    waits = f"still waiting for {printable(path)} after {waited:.0f} s"
                    sys.stderr.write(f"{waits}: is its disk or network there?\n")


_OF_THIS_PROCESS = SlowReads()
watched = _OF_THIS_PROCESS.watched
