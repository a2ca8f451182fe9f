"""JiT (arXiv 2511.13720) for any number of streams."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..streams import StreamSpec
from .attention.kernel import AttentionKernel
from .blocks import NORM_EPS, Block
from .embeddings import Rotary
from .settings import JiTSettings
from .transformer import StreamTransformer


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


class JiT(StreamTransformer):
    """The `jit` denoiser: low-rank patch embedding, RMSNorm, qk-norm, RoPE, SwiGLU.

    In sizes B, L and H 32 class tokens join from a middle block on. JiT's dropout in size H is left out.
    """

    def __init__(self, settings: JiTSettings, streams: Mapping[str, StreamSpec], num_classes: int) -> None:
        size = settings.dimensions()
        width, heads = size.width, size.heads

        def norm() -> nn.Module:
            return nn.RMSNorm(width, eps=NORM_EPS)

        def block(kernel: AttentionKernel) -> Block:
            return Block(width, norm, SelfAttention(width, heads, kernel), SwiGLU(width))

        super().__init__(settings, size, streams, num_classes, norm=norm, block=block)
        self.class_tokens_from = size.class_tokens_from
        # A parameter without elements would wait for a gradient that never comes.
        self.class_positions = nn.Parameter(0.02 * torch.randn(size.class_tokens, width)) if size.class_tokens else None
        self.rotary = Rotary(self.fusion.grids, width // heads)
        self.rotary_with_class = Rotary(self.fusion.grids, width // heads, prefix=size.class_tokens)

    def transform(self, tokens: Tensor, condition: Tensor, label: Tensor) -> Tensor:
        """Run tokens `(B, N, width)` through the blocks; class tokens join on the way and leave at the end."""
        rotary = self.rotary
        for index, block in enumerate(self.blocks):
            if self.class_positions is not None and index == self.class_tokens_from:
                tokens = torch.cat([label[:, None] + self.class_positions, tokens], dim=1)
                rotary = self.rotary_with_class
            tokens = block(tokens, condition, rotary)
        return tokens[:, tokens.shape[1] - len(self.positions) :]
