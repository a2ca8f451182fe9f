"""How much noise an SDE of a straight flow adds over time: SiT's diffusion coefficients D(t) (`path.py` of its code).

Some are singular at an end, where SiT returns no number. There we put a floor under what vanishes, t or 1 - t, so that
one step never replaces more than a stream's whole content (our choice; the error goes with the step).
"""

from __future__ import annotations

import math

from .settings import Form


def diffusion(form: Form, norm: float, time: float, length: float) -> float:
    """Return D at a time, for a step of some length; `sqrt(2 D length)` is the standard deviation of its noise."""
    match form:
        case "sigma" | "linear":
            return norm * (1 - time)
        case "sbdm":
            return norm * (1 - time) / max(time, length)
        case "constant":
            return norm
        case "decreasing":
            return 0.25 * (norm * math.cos(math.pi * time) + 1) ** 2
        case "increasing_decreasing":
            return norm * math.sin(math.pi * time) ** 2


def score_factor(form: Form, norm: float, time: float, length: float, nearest: float) -> float:
    """Return `D / (1 - t)` before data, by which `t v - x` enters the drift.

    The first forms have no division at all; in others D vanishes faster than 1 - t, and no floor is needed.

    Args:
        length: of the step, the floor under t.
        nearest: the floor under 1 - t.
    """
    match form:
        case "sigma" | "linear":
            return norm
        case "sbdm":
            return norm / max(time, length)
        case _:
            vanishes = form == "increasing_decreasing" or (form == "decreasing" and norm == 1)
            return diffusion(form, norm, time, length) / max(1 - time, 0 if vanishes else nearest)
