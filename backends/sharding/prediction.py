"""What a device holds of a run whose weights lie in parts on several, found from what one device would hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor, nn

from ..blocks import blocks_of
from ..loader import BatchPlan
from ..metering import bytes_of
from ..rehearsal import Memory

BLOCKS_AT_ONCE = 4
"""How often the largest block is there: its weights and gradient, the next one's weights, and a buffer on the way. Our
measurement on CPUs: 3.1 times, with 2, 8 and 16 blocks."""


def in_parts(memory: Memory, model: nn.Module, plan: BatchPlan) -> tuple[Memory, int]:
    """Return the memory of one of the devices of a plan, and at most how much of weights is put together there.

    Gradients stay whole until they are exchanged, which several parts of a step do once, after the last of them.
    """
    parameters = list(model.parameters())
    everything, part = bytes_of(parameters), _part_bytes(parameters, plan.devices)
    spared = everything - part
    found = replace(
        memory,
        weights=memory.weights - spared,
        gradients=part if plan.accumulation == 1 else memory.gradients,
        optimizer=memory.optimizer * part // everything,
        average=memory.average - spared,
    )
    before, after = held_by(memory), held_by(found)
    # Pictures and scores are made with a whole model, put together for them.
    later = memory.optimizer - found.optimizer + 2 * spared - memory.weights
    phases = {name: peak - later if name in ("drawing", "scoring") else peak for name, peak in memory.phases.items()}
    phases["training"] = memory.phases["training"] - before + after
    return replace(found, phases=phases), _put_together(model)


def held_by(memory: Memory) -> int:
    """Return the bytes of everything that changes in a step."""
    return memory.weights + memory.gradients + memory.optimizer + memory.average


def _put_together(model: nn.Module) -> int:
    """Return the bytes of weights and gradients that are whole at a time: all outside blocks, and some blocks."""
    blocks = [bytes_of(block.parameters()) for block in blocks_of(model)]
    outside = bytes_of(model.parameters()) - sum(blocks)
    return 2 * outside + BLOCKS_AT_ONCE * max(blocks, default=0)


def _part_bytes(tensors: Iterable[Tensor], devices: int) -> int:
    """Return the bytes of one device's part: rows are handed out, as many to each but the last ones."""
    return sum(-(-tensor.shape[0] // devices) * tensor[0].numel() * tensor.element_size() for tensor in tensors)
