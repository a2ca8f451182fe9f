"""The kernel that suits the device."""

from __future__ import annotations

from functools import cache

from torch import Tensor

from .kernel import AttentionKernel
from .sdpa import SDPA
from .settings import AttentionSettings, SDPASettings, XFormersSettings
from .xformers import XFormers, load_xformers


@cache
def choose(device_type: str) -> tuple[str, str]:
    """Return the kernel's name for a kind of device, and the reason."""
    if device_type != "cuda":
        return "sdpa", f"xformers has no kernels for {device_type}"
    try:
        load_xformers()
    except ImportError as error:
        return "sdpa", f"no xformers: {error}"
    return "xformers", "installed, and the device is CUDA"


class AutoAttention:
    """Chooses by the device of the queries."""

    def __init__(self, settings: AttentionSettings) -> None:
        del settings
        self.kernels: dict[str, AttentionKernel] = {
            "sdpa": SDPA(SDPASettings()),
            "xformers": XFormers(XFormersSettings()),
        }

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Map `(B, tokens, heads, dim)` three times to the same shape."""
        name, _ = choose(query.device.type)
        return self.kernels[name](query, key, value)

    def describe(self, device_type: str) -> str:
        """Return the choice for a kind of device, and why."""
        name, reason = choose(device_type)
        return f"{name} (auto: {reason})"
