"""xformers' attention."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import Tensor

from .kernel import AttentionShape
from .settings import AttentionSettings
from .trial import trials

Operator = Callable[[Tensor, Tensor, Tensor], Tensor]


@cache
def load_xformers() -> Any:
    """Import `xformers.ops`, which is slow and, beside a torch it was not built for, talkative.

    Raises:
        ImportError: it is not installed, or does not load here.
    """
    logging.getLogger("xformers").setLevel(logging.ERROR)
    try:
        return importlib.import_module("xformers.ops")
    except (OSError, RuntimeError) as error:
        raise ImportError(f"xformers does not load here: {error}") from error


def operator_for(device_type: str) -> Operator:
    """Return `memory_efficient_attention`.

    Raises:
        ValueError: it cannot run on this kind of device.
    """
    if device_type != "cuda":
        raise ValueError(f"xformers has no kernels for {device_type}")
    try:
        operator: Operator = load_xformers().memory_efficient_attention
    except ImportError as error:
        raise ValueError(str(error)) from None
    return operator


class XFormers:
    """`memory_efficient_attention`; it chooses a flash-attention or CUTLASS kernel itself."""

    def __init__(self, settings: AttentionSettings) -> None:
        del settings
        self.operator: Operator | None = None

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Map `(B, tokens, heads, dim)` three times to the same shape.

        Raises:
            ValueError: the tensors are not on a CUDA device.
        """
        if self.operator is None:
            self.operator = operator_for(query.device.type)
        return self.operator(query, key, value)

    def settle(self, shape: AttentionShape) -> None:
        """Look the operator up, which a compiler would leave its graph for, and try it.

        It imports even where none of its kernels was built for the torch that is there, or for the card.

        Raises:
            ValueError: nothing runs for such tensors.
        """
        self.operator = operator_for(shape.device.type)
        [attend] = trials({"xformers": self}, shape, batch=1).values()
        try:
            attend()
        except NotImplementedError:
            self.operator = None
            tensors = f"{str(shape.dtype).removeprefix('torch.')} and heads of {shape.dim}"
            raise ValueError(f"xformers has no kernel for {tensors} here") from None

    def describe(self, device_type: str) -> str:
        """Return the kernel's name.

        Raises:
            ValueError: it cannot run on this kind of device.
        """
        operator_for(device_type)
        return "xformers (as the recipe says)"
