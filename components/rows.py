"""Results that do not depend, in their last bits, on how much is computed together.

A CPU's libraries choose their way by the shape of the work, and every way rounds otherwise: few rows of a matrix
product for each thread, or few images of a convolution. (So do a GPU's, less predictably: there results of different
batches agree up to rounding.)
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ROWS_A_THREAD = 8


# The number of threads does not change in a run; a compiler would leave its graph to look it up.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def least_rows(device: torch.device) -> int:
    """Return the smallest number of rows that a matrix product should be given, where rows are to keep their bits."""
    return ROWS_A_THREAD * torch.get_num_threads() if device.type == "cpu" else 1


def equal_pieces(batch: Tensor, size: int) -> Iterator[Tensor]:
    """Yield a batch in pieces of one size, on a CPU; the last one is filled up there with copies of its last entry.

    What is made of the pieces is to be joined and cut to the length of the batch.
    """
    for piece in batch.split(size):
        missing = size - len(piece) if batch.device.type == "cpu" else 0
        yield torch.cat([piece, piece[-1:].expand(missing, *piece.shape[1:])]) if missing else piece
