"""Batches that are encoded while the step before them still runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .loader import Batch
from .space import Encoded


@dataclass(frozen=True)
class EncodedBatch:
    """What a step takes of a batch, on the device: what the frozen networks say, and labels `(B,)`."""

    encoded: Encoded
    labels: Tensor

    def tensors(self) -> list[Tensor]:
        """Return everything in it."""
        return [value for value in (*vars(self.encoded).values(), self.labels) if value is not None]


Encode = Callable[[Batch], EncodedBatch]


class EncodingAhead:
    """Encodes the next batch on a stream of its own, where the device has streams: the step hides it.

    Elsewhere every core is busy with the step, and a batch is encoded when it is asked for. Nothing here is random, so
    that it makes no difference to what is learned.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._begun: EncodedBatch | None = None

    def next(self, batches: Iterator[Batch], encode: Encode) -> EncodedBatch:
        """Return the next batch of an iterator, encoded.

        Args:
            encode: moves a batch to the device and encodes it. It is not kept: it belongs to the trainer that has this,
                and the two would keep each other, and the optimizer, in memory.

        Raises:
            StopIteration: there is none.
        """
        if self._stream is None:
            return encode(next(batches))
        batch = self._begun or self._begin(batches, encode, self._stream)
        here = torch.cuda.current_stream(self.device)
        here.wait_stream(self._stream)
        for tensor in batch.tensors():
            # Its memory may be used anew on the other stream only after this one is done with it.
            tensor.record_stream(here)
        try:
            self._begun = self._begin(batches, encode, self._stream)
        except StopIteration:
            self._begun = None
        return batch

    def _begin(self, batches: Iterator[Batch], encode: Encode, stream: torch.cuda.Stream) -> EncodedBatch:
        batch = next(batches)
        with torch.cuda.stream(stream):
            return encode(batch)
