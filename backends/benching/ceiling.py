"""What the machine can do at most: a matrix product, as large as it likes, at the precision of the run."""

from __future__ import annotations

from collections.abc import Callable

import torch

SIDES = {"cpu": 2048, "cuda": 8192}
"""Of the matrices (our choice): 16 MB each in float32 on a CPU, 128 MB in bfloat16 on a GPU."""


class Ceiling:
    """A product of two square matrices.

    Attributes:
        flops: its floating-point operations, two a multiply-add.
    """

    name = "matrix product"

    def __init__(self, device: torch.device, precision: str) -> None:
        side = SIDES.get(device.type, SIDES["cpu"])
        dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
        self.factors = [torch.randn(side, side, device=device, dtype=dtype) for _ in range(2)]
        self.flops = 2 * side**3

    def call(self) -> Callable[[], object]:
        """Return the product."""
        return lambda: self.factors[0] @ self.factors[1]
