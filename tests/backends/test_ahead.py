"""Encoding ahead changes when a batch is encoded, and nothing else."""

from __future__ import annotations

import pytest
import torch

from latsem.backends.ahead import EncodedBatch, EncodingAhead
from latsem.backends.loader import LABEL, Batch
from latsem.backends.space import Encoded


def batches(count: int) -> list[Batch]:
    return [{LABEL: torch.tensor([number]), "code": torch.full((1, 2), float(number))} for number in range(count)]


def drain(device: torch.device) -> tuple[list[float], list[int]]:
    """Return the batches as they come, and how many were encoded when each of them came."""
    encoded: list[int] = []

    def encode(batch: Batch) -> EncodedBatch:
        encoded.append(int(batch[LABEL]))
        moved = {name: value.to(device) for name, value in batch.items()}
        return EncodedBatch(Encoded(code=moved["code"] * 2), moved[LABEL])

    ahead, given = EncodingAhead(device), iter(batches(4))
    seen, counts = [], []
    for _ in range(4):
        batch = ahead.next(given, encode)
        seen.append(float(batch.encoded.code[0, 0]) + float(batch.labels))
        counts.append(len(encoded))
    with pytest.raises(StopIteration):
        ahead.next(given, encode)
    return seen, counts


def test_a_cpu_encodes_what_is_asked_for() -> None:
    assert drain(torch.device("cpu")) == ([0.0, 3.0, 6.0, 9.0], [1, 2, 3, 4])


@pytest.mark.cuda
def test_a_gpu_encodes_the_next_batch_beside_the_step() -> None:
    assert drain(torch.device("cuda")) == ([0.0, 3.0, 6.0, 9.0], [2, 3, 4, 4])
