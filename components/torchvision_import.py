"""The one door to libraries that import torchvision (timm, torchmetrics, diffusers).

diffusers also imports xformers where it is installed, which warns at length beside a torch that it was not built for;
which kernel runs, and why, is for the attention parts to say.

A torchvision wheel built for CUDA cannot load its operators beside a CPU-only torch, and its import then ends in
"operator torchvision::nms does not exist". Nothing here uses those operators, so their schemas are declared and the
import is repeated. Where the operators load, this does nothing.
"""

from __future__ import annotations

import importlib
import logging
import sys
from functools import cache

import torch

_SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


@cache
def ensure_torchvision() -> None:
    """Make `import torchvision` work, or raise what it raised; keep xformers quiet."""
    logging.getLogger("xformers").setLevel(logging.ERROR)
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        cpu_only = torch.version.cuda is None and torch.version.hip is None
        if not cpu_only or "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name, schema in _SCHEMAS.items():
            torch.library.define(name, schema)
        importlib.import_module("torchvision")
