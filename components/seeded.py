"""Initial weights as a function of a seed, also where several threads build networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .registry import BUILDING


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's global generator begin with a seed within the block, and put its state back.

    The generator belongs to the process: one thread at a time builds parts, all of which may draw from it.
    """
    with BUILDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
