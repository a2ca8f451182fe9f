"""Learning-rate schedule of the shipped networks."""

from __future__ import annotations

import math
from collections.abc import Callable


def warmup_cosine(steps: int) -> Callable[[int], float]:
    """Return the factor at each step: linear over the first 5 %, then a half cosine to zero."""
    warmup = max(1, steps // 20)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor
