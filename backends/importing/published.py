"""The published networks that are read. This file must not import torch."""

from __future__ import annotations

from enum import StrEnum


class Published(StrEnum):
    """A published kind of network: all share one layout of weights.

    `sit` is arXiv 2401.08740, `repa` arXiv 2410.06940 (a SiT whose time runs the other way), `dit` arXiv 2212.09748,
    `redi` and `redi-ddpm` are arXiv 2504.16064 on SiT and DiT.
    """

    SIT = "sit"
    REPA = "repa"
    DIT = "dit"
    REDI = "redi"
    REDI_DDPM = "redi-ddpm"

    @property
    def joint(self) -> bool:
        """Whether a semantic stream lies behind the image's channels."""
        return self in (Published.REDI, Published.REDI_DDPM)

    @property
    def diffusion(self) -> bool:
        """Whether it was trained on discrete steps of noise, and is told the step; else on straight paths."""
        return self in (Published.DIT, Published.REDI_DDPM)
