"""How threads of OpenMP wait for each other: asleep, not spinning."""

from __future__ import annotations

import os

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables that say how they wait, of the standard and of its two common libraries."""


def let_waiting_threads_sleep() -> None:
    """Let threads that wait for others sleep, unless the environment says how they wait.

    The OpenMP of torch's wheels (libgomp) spins at every barrier for about as long as a time slice. Beside other work
    that keeps the very threads from running that are waited for: on two busy cores `pixel_coredi` did not end seven
    steps in a minute, and asleep made 70 to 190 images/s.

    It counts only before torch is imported: OpenMP reads its environment once. Processes that this one starts inherit
    it.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"
