"""Steps that wait for data."""

from __future__ import annotations

from collections.abc import Callable

LONG = 0.05
"""Share of the time from which on it is said (our choice)."""


class WaitingWatch:
    """Says once that steps wait for data; the first ones do, until files are open and processes there.

    Args:
        warn: is told.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.warn = warn
        self._warmed_up = self._told = False

    def see(self, share: float) -> None:
        """Judge the share of the time since the last line of the log."""
        if share > LONG and self._warmed_up and not self._told:
            self._told = True
            self.warn(
                f"{100 * share:.0f} % of the time goes into waiting for data: more processes may read it "
                "(train.workers=N), and 'latsem cache RECIPE' stores what the frozen networks say of it"
            )
        self._warmed_up = True
