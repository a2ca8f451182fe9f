"""Which networks are compiled, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from .blocks import blocks_of
from .errors import UserError
from .settings import FabricSettings

WORTHWHILE = 1e14
"""Operations of a training from which on a CPU compiles for it (our choice): two cores take about ten minutes for them.

There, compiling took 15 to 21 seconds and saved 5 to 25 % of a step.
"""

KERNELS = 64
"""Versions of one function that may be compiled: all networks of a process share that of their blocks."""


@dataclass(frozen=True)
class Choice:
    """Whether blocks are compiled, and what is said of it."""

    on: bool
    said: str


def training_operations(network: nn.Module, tokens: int, images: int) -> float:
    """Return about how many floating-point operations training takes: six a parameter and token (arXiv 2001.08361).

    Args:
        tokens: of an image.
        images: that are trained on, counted again whenever one comes again.
    """
    return 6.0 * sum(p.numel() for p in network.parameters()) * tokens * images


def choose(settings: FabricSettings, device_type: str, operations: float) -> Choice:
    """Return whether a network's blocks are compiled where so many operations train it.

    Training and drawing go by the same choice, so that a score does not depend on where it was made.

    Raises:
        UserError: they should be, and nothing can be compiled here.
    """
    if settings.compile is False:
        return Choice(False, "as written (as the recipe says)")
    if settings.compile == "auto" and not _pays(device_type, operations):
        return Choice(False, "as written (auto: too little is trained for compiling to pay on a CPU)")
    problem = problem_here(device_type)
    if settings.compile == "auto":
        return Choice(not problem, f"as written (auto: {problem})" if problem else "compiled (auto)")
    if problem:
        raise UserError(f"fabric.compile: {problem}; install what is missing, or say fabric.compile=false")
    return Choice(True, "compiled (as the recipe says)")


def _pays(device_type: str, operations: float) -> bool:
    return device_type == "cuda" or operations >= WORTHWHILE


@cache
def problem_here(device_type: str) -> str:
    """Return why nothing can be compiled for a kind of device; nothing if it can: compilers are often not all there."""
    try:
        torch.compile(_trial)(torch.ones(8, device=device_type))
    except RuntimeError as error:
        return f"torch.compile does not work here: {str(error).splitlines()[0]}"
    return ""


def _trial(x: torch.Tensor) -> torch.Tensor:
    return x + 1


def compile_blocks(network: nn.Module, *, dynamic: bool | None, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile the blocks of a network, in place, at their first call; a network without blocks is compiled whole.

    Blocks are alike: one is compiled, and the others take what came out. Around them nothing is worth the time. What is
    compiled already stays as it is.

    Args:
        dynamic: False for one graph a shape, as in training; None where sizes of batches vary.
    """
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, KERNELS)
    # Made for whole networks in one graph, which it cuts where gradients are sent; a block would be cut inside.
    config.optimize_ddp = False
    for region in blocks_of(network) or [network]:
        if region._compiled_call_impl is None:
            region.compile(dynamic=dynamic, backend=backend)
