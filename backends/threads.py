"""How threads of OpenMP wait for each other: asleep, after a short spin."""

from __future__ import annotations

import os

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables that say how they wait, of the standard and of its two common libraries."""

SPINS = "1000"
"""Rounds that a waiting thread spins before it sleeps: a barrier of threads that all run takes less."""


def let_waiting_threads_sleep() -> None:
    """Let threads that wait for others soon sleep, unless the environment says how they wait.

    The OpenMP of torch's wheels (libgomp) spins at every barrier for about as long as a time slice. Beside other work
    that keeps the very threads from running that are waited for: on two cores under a load of 6 `pixel_coredi` ended no
    measurement in a minute, and made 189 and 107 images/s with this. On two idle cores, in turn, it made 695 and 651
    images/s, 751 and 573 as torch comes, and 401 and 359 where threads sleep at once (`OMP_WAIT_POLICY=passive`).

    It counts only before torch is imported: OpenMP reads its environment once. Processes that this one starts inherit
    it.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPINS
