"""JiT (arXiv 2511.13720) for any number of streams."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..registry import build
from ..streams import Streams, StreamSpec, Times
from .attention.kernel import AttentionKernel
from .blocks import Block, Heads
from .embeddings import ClockEmbedding, PatchEmbedding, Rotary, sincos_positions
from .fusion.fusion import Fusion
from .settings import JiTSettings


class JiT(nn.Module):
    """The `jit` denoiser.

    With one stream this is JiT: low-rank patch embedding, fixed sin-cos positions, blocks of RMSNorm, qk-norm, RoPE
    and SwiGLU under adaLN-Zero, and in sizes B, L and H 32 class tokens from a middle block on. Further streams add
    an embedding and a head each. JiT's dropout in size H is left out.
    """

    positions: Tensor

    def __init__(self, settings: JiTSettings, streams: Mapping[str, StreamSpec], num_classes: int) -> None:
        super().__init__()
        size = settings.dimensions()
        self.streams = dict(streams)
        self.fusion: Fusion = build(settings.fusion, streams=streams)
        self.kernel: AttentionKernel = build(settings.attention)
        self.embeddings = nn.ModuleDict(
            {name: PatchEmbedding(spec, size.width, size.bottleneck) for name, spec in streams.items()}
        )
        self.clock = ClockEmbedding(streams, size.width)
        self.labels = nn.Embedding(num_classes + 1, size.width)
        positions = torch.cat([sincos_positions(grid, size.width) for grid in self.fusion.grids])
        self.register_buffer("positions", positions, persistent=False)
        self.rotary = Rotary(self.fusion.grids, size.width // size.heads)
        self.blocks = nn.ModuleList(Block(size.width, size.heads, self.kernel) for _ in range(size.depth))
        self.heads = Heads(size.width, {name: spec.channels * spec.patch**2 for name, spec in streams.items()})
        self.class_tokens_from = size.class_tokens_from
        # A parameter without elements would wait for a gradient that never comes.
        self.class_positions = nn.Parameter(torch.zeros(size.class_tokens, size.width)) if size.class_tokens else None
        self.rotary_with_class = Rotary(self.fusion.grids, size.width // size.heads, prefix=size.class_tokens)
        self._initialize()

    def _initialize(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith("clock."):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.labels.weight, std=0.02)
        if self.class_positions is not None:
            nn.init.normal_(self.class_positions, std=0.02)
        modulations = [module.modulation[1] for module in self.modules() if isinstance(module, Block | Heads)]
        for layer in [*modulations, *self.heads.linear.values()]:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, streams: Streams, times: Times, labels: Tensor) -> Streams:
        """Map noisy streams `(B, C, H, W)`, times `(B,)` and labels `(B,)` to streams of the same shapes."""
        label = self.labels(labels)
        condition = self.clock(times) + label
        tokens = self.fusion.join({name: self.embeddings[name](stream) for name, stream in streams.items()})
        tokens = self._transform(tokens + self.positions, condition, label)
        values = self.heads(self.fusion.split(tokens), condition)
        return {name: self._unpatch(name, patches) for name, patches in values.items()}

    def _transform(self, tokens: Tensor, condition: Tensor, label: Tensor) -> Tensor:
        rotary = self.rotary
        for index, block in enumerate(self.blocks):
            if self.class_positions is not None and index == self.class_tokens_from:
                tokens = torch.cat([label[:, None] + self.class_positions, tokens], dim=1)
                rotary = self.rotary_with_class
            tokens = block(tokens, condition, rotary)
        return tokens[:, tokens.shape[1] - len(self.positions) :]

    def _unpatch(self, name: str, patches: Tensor) -> Tensor:
        spec = self.streams[name]
        grid = patches.transpose(1, 2).unflatten(2, (spec.token_grid, spec.token_grid))
        return F.pixel_shuffle(grid, spec.patch)
