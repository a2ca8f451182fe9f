"""Writing checkpoints, beside the training."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from torch import Tensor, nn

from ...components.atomic_files import flush
from ..errors import RunFailed
from ..files import write_json
from ..run_folder import RunFolder
from ..sharding.tensors import in_main_memory
from ..tensor_files import save_tensors, sha256_of
from .state import TrainingState
from .store import BESIDE, STATE, checkpoint_path, prune, retire


class CheckpointWriter:
    """Writes the checkpoints of one run, one after the other, in a thread.

    Training waits for a copy in memory and not for the disk. What goes wrong in writing is raised by the next call.

    Args:
        keep: how many of the newest stay.
        keep_every: those of multiples of so many steps stay, too; 0: none.
    """

    def __init__(self, folder: RunFolder, keep: int, keep_every: int) -> None:
        self.folder, self.keep, self.keep_every = folder, keep, keep_every
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._written: Future[None] | None = None

    def save(self, step: int, state: TrainingState) -> None:
        """Begin to write the state after a step, as soon as the checkpoint before it is there.

        Raises:
            OSError: the checkpoint before it could not be written.
        """
        self.wait()
        self._written = self._thread.submit(self._write, step, state.tensors(copy=True))

    def save_last(self, step: int, state: TrainingState) -> None:
        """Write the state after a step and wait until it is on the disk: no training goes on, no copy is needed.

        Raises:
            OSError: it, or the checkpoint before it, could not be written.
        """
        self.wait()
        self._write(step, state.tensors(copy=False))

    def wait(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            OSError: it could not be written.
        """
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def close(self) -> None:
        """Wait, whatever became of it."""
        self._thread.shutdown()

    def _write(self, step: int, tensors: Mapping[str, dict[str, Tensor]]) -> None:
        self.folder.require_held()
        # Lines of the log that belong to the checkpoint are on the disk before it is.
        flush(path for path in (self.folder.metrics,) if path.exists())
        write_checkpoint(self.folder, step, tensors)
        prune(self.folder, self.keep, self.keep_every)


def save_weights(folder: RunFolder, step: int, ema: nn.Module) -> Path:
    """Write a checkpoint of the moving average alone: enough to sample and score with, not to go on."""
    return write_checkpoint(folder, step, {"ema": in_main_memory(ema.state_dict(), copy=False)})


def write_checkpoint(folder: RunFolder, step: int, tensors: Mapping[str, dict[str, Tensor]]) -> Path:
    """Write the checkpoint of a step: beside, flushed, with checksums, and renamed.

    Raises:
        OSError: it cannot be written; nothing is left of it.
        RunFailed: the folder is no longer the one that was locked.
    """
    target = checkpoint_path(folder, step)
    beside = target.with_name(f"{BESIDE}{step:08d}.{os.getpid()}")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        for name, values in tensors.items():
            save_tensors(values, beside / f"{name}.safetensors")
        write_json(beside / "recipe.json", folder.recipe())
        sums = {path.name: sha256_of(path) for path in sorted(beside.iterdir())}
        write_json(beside / STATE, {"step": step, "sha256": sums})
        flush([beside])
        folder.require_held()
        if target.exists():
            retire(target)
        beside.rename(target)
        flush([folder.checkpoints])
    except (OSError, RunFailed):
        shutil.rmtree(beside, ignore_errors=True)
        # A folder that was removed is the reason for the system's error.
        folder.require_held()
        raise
    return target
