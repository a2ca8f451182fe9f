"""The room that a run's checkpoints take on the disk."""

from __future__ import annotations

import math

from torch import nn

from ..errors import UserError
from ..hardware import free_disk
from ..metering import bytes_of
from ..run_folder import RunFolder
from ..settings import TrainSettings
from ..shown import size
from .store import checkpoints


def checkpoint_bytes(model: nn.Module) -> int:
    """Return the bytes of a checkpoint: weights, their moving average, and the two moments of AdamW."""
    learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return 2 * bytes_of(model.state_dict().values()) + 2 * bytes_of(learns)


def most_checkpoints(train: TrainSettings) -> int:
    """Return how many checkpoints there are at most at a time."""
    saves = -(-train.steps // train.checkpoint_every) if train.checkpoint_every else 1
    # A new one is written before the oldest goes.
    return min(saves, train.keep + 1 + _kept_for_good(train))


def require_room(folder: RunFolder, model: nn.Module, train: TrainSettings) -> None:
    """Refuse to begin what would end at a full disk.

    Raises:
        UserError: the disk has less than the checkpoints that are still to come take.
    """
    more = max(0, most_checkpoints(train) - len(checkpoints(folder)))
    needed, free = more * checkpoint_bytes(model), free_disk(folder.path)
    if needed > free:
        raise UserError(
            f"{folder.path}: {more} more checkpoints take {size(needed)} and the disk has {size(free)}: make room, "
            "keep fewer (train.keep, train.keep_every), or run on another disk (--root)"
        )


def _kept_for_good(train: TrainSettings) -> int:
    """Return the number of checkpoints that stay however many follow."""
    if not train.keep_every or not train.checkpoint_every:
        return 0
    return train.steps // math.lcm(train.keep_every, train.checkpoint_every)
