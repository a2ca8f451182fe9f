"""What transformers of this family share: blocks and heads conditioned by adaLN-Zero (DiT, arXiv 2212.09748)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .per_image import PerImage

NORM_EPS = 1e-6

Norm = Callable[[], nn.Module]


def modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return `tokens * (1 + scale) + shift` for tokens `(B, N, width)` and vectors `(B, width)`."""
    return torch.addcmul(shift[:, None], tokens, 1 + scale[:, None])


class Block(nn.Module):
    """Attention, then an MLP; each is shifted, scaled and gated by the condition, and starts as the identity."""

    def __init__(self, width: int, norm: Norm, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.norm_attention, self.attention = norm(), attention
        self.norm_mlp, self.mlp = norm(), mlp
        self.modulation = PerImage(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, tokens: Tensor, condition: Tensor, *context: Any) -> Tensor:
        """Map tokens `(B, N, width)` under a condition `(B, width)`; the attention is handed the context."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition).chunk(6, dim=1)
        attended = self.attention(modulate(self.norm_attention(tokens), shift_a, scale_a), *context)
        tokens = torch.addcmul(tokens, gate_a[:, None], attended)
        mixed = self.mlp(modulate(self.norm_mlp(tokens), shift_m, scale_m))
        return torch.addcmul(tokens, gate_m[:, None], mixed)


class Heads(nn.Module):
    """The last norm and modulation, shared, and one linear head a stream."""

    def __init__(self, width: int, norm: Norm, outputs: dict[str, int]) -> None:
        super().__init__()
        self.norm = norm()
        self.modulation = PerImage(nn.SiLU(), nn.Linear(width, 2 * width))
        self.linear = nn.ModuleDict({name: nn.Linear(width, values) for name, values in outputs.items()})

    def forward(self, tokens: dict[str, Tensor], condition: Tensor) -> dict[str, Tensor]:
        """Map each stream's tokens `(B, n, width)` to the values of its patches."""
        shift, scale = self.modulation(condition).chunk(2, dim=1)
        # Merged streams share one tensor: normalise it once.
        ready = {id(x): modulate(self.norm(x), shift, scale) for x in tokens.values()}
        return {name: self.linear[name](ready[id(x)]) for name, x in tokens.items()}
