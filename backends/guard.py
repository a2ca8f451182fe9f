"""A step that is not finite changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor


class NotFinite(Exception):  # noqa: N818
    """The loss or the gradient of a step was not finite; the state is that before it.

    Attributes:
        values: what came out of it, if this process knows all of it.
    """

    def __init__(self, step: int, values: dict[str, Tensor]) -> None:
        super().__init__(f"step {step}: the loss or the gradient is not finite")
        self.step, self.values = step, values


class FiniteGuard:
    """Keeps steps whose loss or gradient is not finite away from the weights, without reading from the device.

    The fused optimizer leaves out a step of which it is told on the device. After more such steps than may be left out
    it leaves out all that follow, so that the state stays that before the first of these until somebody looks.

    Args:
        buffers: what a forward pass changes beside the weights: running statistics.
        allowed: steps that may be left out.
    """

    def __init__(self, fabric: Fabric, buffers: Sequence[Tensor], allowed: int) -> None:
        self.buffers, self.allowed = list(buffers), allowed
        self.skipped = torch.zeros((), dtype=torch.int64, device=fabric.device)
        self.failed = torch.zeros((), dtype=torch.int64, device=fabric.device)
        self._before: list[Tensor] = []

    def begin(self) -> None:
        """Remember what the forward passes of a step are about to change."""
        self._before = [buffer.clone() for buffer in self.buffers]

    def undo(self) -> None:
        """Put back what the forward passes of a step have changed that is not finished."""
        with torch.no_grad():
            for buffer, before in zip(self.buffers, self._before, strict=True):
                buffer.copy_(before)

    def judge(self, step: int, *values: Tensor) -> Tensor:
        """Return 1 if the optimizer must leave this step out and 0 if not, as a tensor on the device.

        Args:
            values: scalars that must be finite: the loss, the norm of the gradient. They are the same in all
                processes, so that all leave out the same steps.
        """
        finite = torch.stack([value.detach().float() for value in values]).isfinite().all()
        bad = ~finite
        going = self.failed == 0
        self.skipped += bad & going
        beyond = going & bad & (self.skipped > self.allowed)
        self.failed = torch.where(beyond, step, self.failed)
        left_out = bad | (self.failed > 0)
        with torch.no_grad():
            for buffer, before in zip(self.buffers, self._before, strict=True):
                buffer.copy_(torch.where(left_out, before, buffer))
        return left_out.float()

    def failure(self) -> int:
        """Return the first step that was one too many, 0 if there is none. This waits for the device."""
        return int(self.failed)

    def tensors(self) -> dict[str, Tensor]:
        """Return what must be kept to go on exactly."""
        return {"skipped": self.skipped}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what was kept."""
        self.skipped.copy_(tensors["skipped"])
