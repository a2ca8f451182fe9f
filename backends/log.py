"""The log of a run: one JSON line a log step, and the same as TensorBoard events."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from .run_folder import RunFolder, write_atomically


class MetricLog:
    """Appends to `metrics.jsonl`. Going on from a step first drops the lines behind it.

    Attributes:
        last_step: step of the last line; 0 if there is none.
    """

    def __init__(self, folder: RunFolder, from_step: int) -> None:
        self.path = folder.metrics
        kept = [line for line in read_lines(self.path) if json.loads(line)["step"] <= from_step]
        self.last_step = json.loads(kept[-1])["step"] if kept else 0
        write_atomically(self.path, "".join(line + "\n" for line in kept))
        self.events = SummaryWriter(folder.path / "tensorboard", purge_step=from_step + 1)

    def write(self, step: int, images: int, values: Mapping[str, float]) -> None:
        """Write one line: step, images seen, values by name. A value that is not finite becomes null."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "images": images, **finite}) + "\n")
        self.last_step = step
        for name, value in values.items():
            self.events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush everything."""
        self.events.close()


def read_lines(path: Path) -> list[str]:
    """Return the complete lines of a log; a last one that was cut off is left out."""
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
