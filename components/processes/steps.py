"""Numbers that belong to the steps of a discrete process."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .process import column


class StepTable:
    """Named rows `(N,)` of float64, copied once to every device and precision in which they are looked up."""

    def __init__(self, rows: Mapping[str, Tensor]) -> None:
        self._rows = dict(rows)
        self._copies: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}

    def at(self, step: Tensor, like: Tensor) -> dict[str, Tensor]:
        """Return every row at steps `(B,)`, as `(B, 1, 1, 1)` on the device and in the precision of `like`."""
        kind = (like.device, like.dtype)
        if kind not in self._copies:
            self._copies[kind] = {name: values.to(like) for name, values in self._rows.items()}
        return {name: column(values[step]) for name, values in self._copies[kind].items()}
