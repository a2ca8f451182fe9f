"""The callables that process, guidance and sampler hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from .streams import Streams

Instants = Mapping[str, float]
"""Stream name -> its time, the same for the whole batch."""

Predictor = Callable[[Streams, Instants], Streams]
"""Noisy streams at their times -> what a sampler follows: velocities of a flow, noises of a diffusion.

A diffusion with learned variance adds an entry `variance_of(name)` a stream.
"""

ConditionalPredictor = Callable[[Streams, Instants, Tensor], Streams]
"""The same for labels `(B,)`; the label `num_classes` means unconditional.

A stream that the network is not to see is zeros, and beside it, under `unseen_of(name)`, the noisy stream itself: what
is followed from a prediction of the clean stream depends on both.
"""

Progress = Callable[[int, int], None]
"""Called with steps done and steps in all."""
