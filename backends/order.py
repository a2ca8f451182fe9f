"""The order of an epoch: random, and where images lie in blocks that are cheap to read together, near the disk's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

WINDOW = 16
"""Blocks whose images are mixed (our choice): with shards of 1,000 images, 16,000 are, and 16 files are read at a time.
WebDataset's usual shuffle buffers hold 1,000 to 10,000."""


def epoch_order(
    size: int, generator: torch.Generator, blocks: Sequence[int] | None = None, window: int = WINDOW
) -> list[int]:
    """Return a permutation of `size` images.

    With blocks, these are shuffled, and then the images inside windows of `window` consecutive ones; without, every
    permutation is as likely as any other.

    Args:
        blocks: number of images in each group of consecutive images that are cheap to read together.

    Raises:
        ValueError: the blocks do not add up to `size`.
    """
    if blocks is None:
        whole: list[int] = torch.randperm(size, generator=generator).tolist()
        return whole
    if sum(blocks) != size:
        raise ValueError(f"blocks of {sum(blocks)} images for {size} images")
    starts = [0, *accumulate(blocks)]
    shuffled = torch.randperm(len(blocks), generator=generator).tolist()
    order: list[int] = []
    for first in range(0, len(shuffled), window):
        members = torch.cat(
            [torch.arange(starts[block], starts[block + 1]) for block in shuffled[first : first + window]]
        )
        order += members[torch.randperm(len(members), generator=generator)].tolist()
    return order
