"""The log of a run: one JSON line a log step, and the same as TensorBoard events."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field
from torch.utils.tensorboard import SummaryWriter

from .files import JsonLines, MissingFile, Shape, read_json_lines, write_atomically
from .run_folder import RunFolder


class LineShape(Shape):
    """What a line of the log contains."""

    step: int = Field(ge=0)


class MetricLog:
    """Appends to `metrics.jsonl`. Resuming from a step first drops the lines behind it.

    A log with damaged lines is set aside, and the lines that can be read are kept.

    Attributes:
        last_step: step of the last line; 0 if there is none.

    Raises:
        UnreadableFile: there is a log that cannot be read.
    """

    def __init__(self, folder: RunFolder, from_step: int) -> None:
        self.folder, self.path = folder, folder.metrics
        found = read_log(self.path)
        if found.damaged:
            _set_aside(self.path, found.damaged)
        kept = [line for line in found.objects if line["step"] <= from_step]
        self.last_step = int(kept[-1]["step"]) if kept else 0
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.events = SummaryWriter(folder.path / "tensorboard", purge_step=from_step + 1)

    def write(self, step: int, images: int, values: Mapping[str, float]) -> None:
        """Write one line: step, images seen, values by name. A value that is not finite becomes null."""
        self.folder.require_held()
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "images": images, **finite}) + "\n")
        self.last_step = step
        for name, value in values.items():
            self.events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush everything."""
        self.events.close()


def read_log(path: Path) -> JsonLines:
    """Return the lines of a log; without any if there is no log yet.

    Raises:
        UnreadableFile: there is one that cannot be read.
    """
    try:
        return read_json_lines(path, LineShape)
    except MissingFile:
        return JsonLines([])


def _set_aside(path: Path, line: int) -> None:
    """Rename a damaged log, so that nothing of it is lost."""
    names = [f"damaged-{path.name}", *(f"damaged-{number}-{path.name}" for number in range(2, 1000))]
    aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    path.rename(aside)
    warnings.warn(f"{path}: line {line} is damaged; set aside as {aside.name}, readable lines are kept", stacklevel=2)
