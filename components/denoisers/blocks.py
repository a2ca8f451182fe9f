"""Transformer blocks conditioned by adaLN-Zero (DiT, arXiv 2212.09748), with RMSNorm, SwiGLU, qk-norm and RoPE."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention.kernel import AttentionKernel
from .embeddings import Rotary

NORM_EPS = 1e-6


def modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return `tokens * (1 + scale) + shift` for tokens `(B, N, width)` and vectors `(B, width)`."""
    return torch.addcmul(shift[:, None], tokens, 1 + scale[:, None])


class SelfAttention(nn.Module):
    """Multi-head attention; queries and keys are normalised a head, which keeps half precision stable."""

    def __init__(self, width: int, heads: int, kernel: AttentionKernel) -> None:
        super().__init__()
        self.heads, self.kernel = heads, kernel
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm_gain = nn.Parameter(torch.ones(2, 1, width // heads))

    def forward(self, tokens: Tensor, rotary: Rotary) -> Tensor:
        """Map tokens `(B, N, width)` to the same shape."""
        query_key, value = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).split((2, 1), dim=2)
        # Queries and keys go through norm and rotation as one tensor: half as many small operations.
        normed = F.rms_norm(query_key.float(), query_key.shape[-1:], eps=NORM_EPS) * self.norm_gain
        query, key = rotary(normed).to(value.dtype).unbind(2)
        mixed: Tensor = self.proj(self.kernel(query, key, value.squeeze(2)).flatten(2))
        return mixed


class SwiGLU(nn.Module):
    """`W3 (silu(W1 x) * W2 x)` with two thirds of four times the width inside: as many parameters as a plain MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = int(4 * width * 2 / 3)
        self.gate_and_value = nn.Linear(width, 2 * hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens `(B, N, width)` to the same shape."""
        gate, value = self.gate_and_value(tokens).chunk(2, dim=-1)
        mixed: Tensor = self.out(F.silu(gate) * value)
        return mixed


class Block(nn.Module):
    """Attention, then SwiGLU; each is shifted, scaled and gated by the condition, and starts as the identity."""

    def __init__(self, width: int, heads: int, kernel: AttentionKernel) -> None:
        super().__init__()
        self.norm_attention = nn.RMSNorm(width, eps=NORM_EPS)
        self.attention = SelfAttention(width, heads, kernel)
        self.norm_mlp = nn.RMSNorm(width, eps=NORM_EPS)
        self.mlp = SwiGLU(width)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, tokens: Tensor, condition: Tensor, rotary: Rotary) -> Tensor:
        """Map tokens `(B, N, width)` under a condition `(B, width)`."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition).chunk(6, dim=1)
        attended = self.attention(modulate(self.norm_attention(tokens), shift_a, scale_a), rotary)
        tokens = torch.addcmul(tokens, gate_a[:, None], attended)
        mixed = self.mlp(modulate(self.norm_mlp(tokens), shift_m, scale_m))
        return torch.addcmul(tokens, gate_m[:, None], mixed)


class Heads(nn.Module):
    """The last norm and modulation, shared, and one linear head a stream."""

    def __init__(self, width: int, outputs: dict[str, int]) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.linear = nn.ModuleDict({name: nn.Linear(width, values) for name, values in outputs.items()})

    def forward(self, tokens: dict[str, Tensor], condition: Tensor) -> dict[str, Tensor]:
        """Map each stream's tokens `(B, n, width)` to the values of its patches."""
        shift, scale = self.modulation(condition).chunk(2, dim=1)
        # Merged streams share one tensor: normalise it once.
        ready = {id(x): modulate(self.norm(x), shift, scale) for x in tokens.values()}
        return {name: self.linear[name](ready[id(x)]) for name, x in tokens.items()}
