"""Which convention a network was trained in, where its layout does not tell: by its file, and by what it has learned.

SiT, REPA, DiT and ReDi share every name and shape of their tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ...components.denoisers.denoiser import Denoiser
from ...components.streams import StreamSpec
from .published import Published

CLEAR = 0.8
"""Cosine between what goes in and what comes out that no untrained network has; trained ones are above 0.9."""

LAST_STEP = 999.0
REPA_PROJECTORS, REDI_PROJECTOR = "projectors.", "projector."
REPA_ARGUMENTS = ("enc_type", "proj_coeff")


def contradiction(names: Iterable[str], arguments: Mapping[str, Any], published: Published) -> str:
    """Return why a file is not of the kind that it is imported as, and which one it is; empty if nothing says so.

    Args:
        names: of its tensors.
        arguments: of the training script, as released code keeps them in checkpoints.
    """
    heads = {name.partition(".")[0] + "." for name in names}
    model = str(arguments.get("model", ""))
    if REPA_PROJECTORS in heads and published is not Published.REPA:
        return f"holds the '{REPA_PROJECTORS}' of REPA's code, where time 0 is data; import it --as repa"
    if REDI_PROJECTOR in heads and published is Published.REPA:
        return f"holds the '{REDI_PROJECTOR}' of ReDi's code, where time 0 is noise; import it --as sit"
    if published is Published.SIT and all(key in arguments for key in REPA_ARGUMENTS):
        return "was trained by REPA's code, as its arguments say, where time 0 is data; import it --as repa"
    if model.startswith("DiT") and not published.diffusion:
        return f"was trained as {model[:40]!r}, as its arguments say; import it --as dit"
    if model.startswith("SiT") and published.diffusion:
        return f"was trained as {model[:40]!r}, as its arguments say; import it --as sit"
    return ""


@torch.no_grad()
def behaviour(denoiser: Denoiser, streams: Mapping[str, StreamSpec]) -> Literal["flow", "diffusion"] | None:
    """Return which kind of process a network has learned, None where what it says of noise does not tell.

    Both see noise that they know from training. A network of straight paths says `data - noise` at time 0, the opposite
    of its input. One of discrete steps says `noise` at step 999, its input; at the steps 0 and 1, which are one time
    for it, it says nearly the same, where the other kind changes its sign.
    """
    generator = torch.Generator().manual_seed(0)
    times = torch.tensor([0.0, 1.0, LAST_STEP])
    noise = {name: torch.randn(1, *spec.shape, generator=generator) for name, spec in streams.items()}
    inputs = {name: one.expand(len(times), -1, -1, -1) for name, one in noise.items()}
    outputs = denoiser(inputs, dict.fromkeys(inputs, times), torch.zeros(len(times), dtype=torch.long))
    said = torch.cat([outputs[name][:, : noise[name].shape[1]].flatten(1) for name in streams], dim=1)
    heard = torch.cat([one.flatten(1) for one in noise.values()], dim=1)
    first, second, last = said
    if _cosine(first, heard[0]) < -CLEAR:
        return "flow"
    if _cosine(last, heard[0]) > CLEAR and _cosine(first, second) > 0:
        return "diffusion"
    return None


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one, other, dim=0))
