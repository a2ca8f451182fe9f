"""The run folder of an imported network, written beside and renamed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ..assembly import ImageModel
from ..checkpointing.writing import save_weights
from ..errors import UserError
from ..files import write_atomically, write_json
from ..hardware import environment
from ..run_folder import ENVIRONMENT, RECIPE, RunFolder, claim_folder

FAMILY = "imported"


def new_folder(root: Path, name: str) -> RunFolder:
    """Return a folder that is not there yet, below `root`; it is not created.

    Raises:
        UserError: it exists already, or `name` is no folder name.
    """
    path = root / FAMILY / name
    if path.exists():
        raise UserError(f"{path}: exists already; choose another --name, or remove it")
    return claim_folder(root, FAMILY, {}, name)


def write_folder(folder: RunFolder, parts: ImageModel, text: str, step: int, origin: dict[str, Any]) -> None:
    """Write the folder: recipe, versions, and a checkpoint of the weights that `parts` has now.

    Args:
        folder: where; it appears complete or not at all.
        parts: what makes images.
        text: the recipe as a file.
        step: the training step of the weights.
        origin: where the weights came from, JSON values only.
    """
    beside = RunFolder(folder.path.with_name(f".{folder.path.name}.{os.getpid()}"))
    described = {
        "recipe": parts.recipe,
        "num_classes": parts.num_classes,
        "streams": {name: vars(spec) for name, spec in parts.streams.items()},
        "imported": origin,
    }
    try:
        write_atomically(beside.path / RECIPE, text)
        write_json(beside.path / ENVIRONMENT, environment())
        write_json(beside.resolved, described)
        save_weights(beside, step, parts.model)
        beside.path.rename(folder.path)
    finally:
        shutil.rmtree(beside.path, ignore_errors=True)
