"""Random numbers as a function of where they are used, so that nothing needs to be remembered to go on exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor


def derived_seed(*what: int | str) -> int:
    """Return a 63-bit seed that depends on every argument."""
    digest = hashlib.blake2b("/".join(map(str, what)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def derived_generator(device: torch.device | str, *what: int | str) -> torch.Generator:
    """Return a generator on a device, seeded by `derived_seed`."""
    return torch.Generator(device).manual_seed(derived_seed(*what))


def normal_of(generator: torch.Generator) -> Callable[[torch.Size], Tensor]:
    """Return a function that draws standard normal noise of a shape from a generator, on its device."""
    return lambda shape: torch.randn(shape, generator=generator, device=generator.device)
