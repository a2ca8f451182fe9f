"""DiT (arXiv 2212.09748), which is also SiT's network (arXiv 2401.08740), for any number of streams."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..streams import StreamSpec
from .attention.kernel import AttentionKernel
from .blocks import NORM_EPS, Block
from .settings import DiTSettings
from .transformer import StreamTransformer

MLP_RATIO = 4

GELU_SLOPE = math.sqrt(8 / math.pi)


class SelfAttention(nn.Module):
    """Multi-head attention, as in ViT."""

    def __init__(self, width: int, heads: int, kernel: AttentionKernel) -> None:
        super().__init__()
        self.heads, self.kernel = heads, kernel
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens `(B, N, width)` to the same shape."""
        query, key, value = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).unbind(2)
        mixed: Tensor = self.proj(self.kernel(query, key, value).flatten(2))
        return mixed


def gelu(x: Tensor) -> Tensor:
    """Return the tanh-approximated GELU (arXiv 1606.08415) of values of any shape.

    As `(1 + tanh(u)) / 2 = sigmoid(2u)`, a compiler may be given the sigmoid, which a CPU computes three times as fast;
    uncompiled, that would be five passes over memory instead of one.
    """
    if not torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.sigmoid(GELU_SLOPE * wide * (1 + 0.044715 * wide * wide))).to(x.dtype)


class MLP(nn.Module):
    """Two layers with a tanh-approximated GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens `(B, N, width)` to the same shape."""
        mixed: Tensor = self.fc2(gelu(self.fc1(tokens)))
        return mixed


class DiT(StreamTransformer):
    """The `dit` and `sit` denoisers: LayerNorm without affine parameters, plain attention, GELU.

    What the two papers do differently (the path, the unit of time, the learned variance) is the process's business.
    """

    def __init__(self, settings: DiTSettings, streams: Mapping[str, StreamSpec], num_classes: int) -> None:
        size = settings.dimensions()
        width = size.width

        def norm() -> nn.Module:
            return nn.LayerNorm(width, eps=NORM_EPS, elementwise_affine=False)

        def block(kernel: AttentionKernel) -> Block:
            return Block(width, norm, SelfAttention(width, size.heads, kernel), MLP(width))

        super().__init__(settings, size, streams, num_classes, norm=norm, block=block)

    def transform(self, tokens: Tensor, condition: Tensor, label: Tensor) -> Tensor:
        """Run tokens `(B, N, width)` through the blocks."""
        del label
        for block in self.blocks:
            tokens = block(tokens, condition)
        return tokens
