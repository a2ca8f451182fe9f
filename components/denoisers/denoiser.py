"""What every denoiser is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from ..streams import Streams, Times


@runtime_checkable
class Denoiser(Protocol):
    """One network for all streams; what it outputs (x, v, eps) is the process's business."""

    def __call__(self, streams: Streams, times: Times, labels: Tensor) -> Streams:
        """Map noisy streams `(B, C, H, W)`, their times `(B,)` and labels `(B,)` to outputs `(B, outputs, H, W)`.

        The label `num_classes` means unconditional.
        """
        ...
