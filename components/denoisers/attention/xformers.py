"""xformers' attention."""

from __future__ import annotations

import importlib
import logging
from functools import cache
from typing import Any

from torch import Tensor

from .kernel import AttentionShape
from .settings import AttentionSettings


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


class XFormers:
    """`memory_efficient_attention`; it chooses a flash-attention or CUTLASS kernel itself."""

    def __init__(self, settings: AttentionSettings) -> None:
        del settings

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Map `(B, tokens, heads, dim)` three times to the same shape.

        Raises:
            ValueError: the tensors are not on a CUDA device.
        """
        if not query.is_cuda:
            raise ValueError("attention 'xformers' needs a CUDA device: use attention=sdpa, or auto")
        result: Tensor = load_xformers().memory_efficient_attention(query, key, value)
        return result

    def settle(self, shape: AttentionShape) -> None:
        """Nothing depends on the shape here."""

    def describe(self, device_type: str) -> str:
        """Return the kernel's name.

        Raises:
            ValueError: it cannot run on this kind of device.
        """
        if device_type != "cuda":
            raise ValueError(f"xformers has no kernels for {device_type}: use sdpa, or auto")
        try:
            load_xformers()
        except ImportError as error:
            raise ValueError(f"{error}: use sdpa, or auto") from None
        return "xformers (as the recipe says)"
