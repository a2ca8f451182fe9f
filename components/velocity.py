"""The callables that process, guidance and sampler hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from .streams import Streams

Instants = Mapping[str, float]
"""Stream name -> its time, the same for the whole batch."""

Velocity = Callable[[Streams, Instants], Streams]
"""Noisy streams at their times -> velocities."""

ConditionalVelocity = Callable[[Streams, Instants, Tensor], Streams]
"""The same for labels `(B,)`; the label `num_classes` means unconditional."""

Clock = Callable[[float], Instants]
"""An instant in [0, 1] of the common clock -> each stream's own time."""

Progress = Callable[[int, int], None]
"""Called with steps done and steps in all."""
