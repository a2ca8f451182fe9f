"""The transformer over streams that every denoiser here is; kinds of it differ in their blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..registry import build
from ..streams import Streams, StreamSpec, Times
from .attention.kernel import AttentionKernel, AttentionShape
from .blocks import Block, Heads, Norm
from .embeddings import ClockEmbedding, PatchEmbedding, sincos_positions
from .fusion.fusion import Fusion
from .settings import DenoiserSettings, Size


class StreamTransformer(nn.Module, ABC):
    """One embedding and one head a stream, a fusion between them, fixed sin-cos positions, blocks under adaLN-Zero.

    With one stream this is the published network of its kind; further streams add an embedding and a head each. It
    starts silent: the last layer of every modulation and every head is zero.
    """

    positions: Tensor

    def __init__(
        self,
        settings: DenoiserSettings,
        size: Size,
        streams: Mapping[str, StreamSpec],
        num_classes: int,
        *,
        norm: Norm,
        block: Callable[[AttentionKernel], Block],
    ) -> None:
        super().__init__()
        self.streams = dict(streams)
        self.size = size
        self.fusion: Fusion = build(settings.fusion, streams=streams)
        self.kernel: AttentionKernel = build(settings.attention)
        self.embeddings = nn.ModuleDict(
            {name: PatchEmbedding(spec, size.width, size.bottleneck) for name, spec in streams.items()}
        )
        self.clock = ClockEmbedding(streams, size.width)
        self.labels = nn.Embedding(num_classes + 1, size.width)
        self.register_buffer("positions", sincos_positions(self.fusion.grids, size.width), persistent=False)
        self.blocks = nn.ModuleList(block(self.kernel) for _ in range(size.depth))
        self.heads = Heads(size.width, norm, {name: spec.outputs * spec.patch**2 for name, spec in streams.items()})
        self._initialize()

    def _initialize(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith("clock."):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.labels.weight, std=0.02)
        modulations = [module.modulation[1] for module in self.modules() if isinstance(module, Block | Heads)]
        for layer in [*modulations, *self.heads.linear.values()]:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, streams: Streams, times: Times, labels: Tensor) -> Streams:
        """Map noisy streams `(B, C, H, W)`, times `(B,)` and labels `(B,)` to outputs `(B, outputs, H, W)`."""
        label = self.labels(labels)
        condition = self.clock(times) + label
        tokens = self.fusion.join({name: self.embeddings[name](stream) for name, stream in streams.items()})
        tokens = self.transform(tokens + self.positions, condition, label)
        values = self.heads(self.fusion.split(tokens), condition)
        return {name: self._unpatch(name, patches) for name, patches in values.items()}

    def settle(self, device: torch.device, dtype: torch.dtype) -> str:
        """Let the attention kernel prepare for a device and the type of its products; return what it says of itself.

        Raises:
            ValueError: it cannot run there.
        """
        self.kernel.settle(self.attention_shape(device, dtype))
        return self.kernel.describe(device.type)

    def attention_shape(self, device: torch.device, dtype: torch.dtype) -> AttentionShape:
        """Return what attention works on: most blocks see the class tokens, too."""
        tokens, heads = len(self.positions) + self.size.class_tokens, self.size.heads
        return AttentionShape(device, dtype, tokens, heads, self.size.width // heads)

    @abstractmethod
    def transform(self, tokens: Tensor, condition: Tensor, label: Tensor) -> Tensor:
        """Run tokens `(B, N, width)` through the blocks, under a condition and the label's embedding `(B, width)`."""

    def _unpatch(self, name: str, patches: Tensor) -> Tensor:
        spec = self.streams[name]
        grid = patches.transpose(1, 2).unflatten(2, (spec.token_grid, spec.token_grid))
        return F.pixel_shuffle(grid, spec.patch)
