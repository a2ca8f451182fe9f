"""Settings of the denoisers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from ..registry import PartField, register
from ..settings import Settings
from ..streams import StreamSpec
from .attention.settings import AttentionSettings, AutoAttentionSettings
from .fusion.settings import FusionSettings, MergedSettings


class DenoiserSettings(Settings):
    """Base of every denoiser's settings."""

    patch: int = Field(8, ge=1, le=256, description="side of an image token, in pixels or latents")
    fusion: Annotated[FusionSettings, PartField("fusion")] = Field(
        default_factory=MergedSettings, description="how the tokens of several streams meet"
    )
    attention: Annotated[AttentionSettings, PartField("attention")] = Field(
        default_factory=AutoAttentionSettings, description="kernel that computes attention"
    )

    def problems(self, streams: Mapping[str, StreamSpec]) -> Iterator[tuple[str, str]]:
        """Yield `(key, message)` for what does not fit together, before anything is built."""
        for message in self.fusion.problems(streams):
            yield "fusion", message


@dataclass(frozen=True)
class Size:
    """Published dimensions of one size of a network."""

    depth: int
    width: int
    heads: int
    bottleneck: int | None
    class_tokens: int = 0
    class_tokens_from: int = 0


JIT_SIZES: Mapping[str, Size] = {
    "tiny": Size(depth=6, width=128, heads=4, bottleneck=None),
    "B": Size(depth=12, width=768, heads=12, bottleneck=128, class_tokens=32, class_tokens_from=4),
    "L": Size(depth=24, width=1024, heads=16, bottleneck=128, class_tokens=32, class_tokens_from=8),
    "H": Size(depth=32, width=1280, heads=16, bottleneck=256, class_tokens=32, class_tokens_from=10),
}
"""B, L and H are JiT's (arXiv 2511.13720); tiny is ours, for two CPU cores.

Without a bottleneck: patches of 8 x 8 pixels have 192 values, and one of 128 was slower in a short run.
"""


@register("denoiser", "jit", builds=".jit:JiT")
class JiTSettings(DenoiserSettings):
    """Plain transformer on large patches: RMSNorm, SwiGLU, RoPE, qk-norm, adaLN-Zero (JiT, arXiv 2511.13720)."""

    size: Literal["tiny", "B", "L", "H"] = Field("tiny", description="sets depth, width and heads")
    depth: int | None = Field(None, ge=1, le=256, description="number of blocks, instead of the size's")
    width: int | None = Field(None, ge=8, le=16384, description="token width, instead of the size's")
    heads: int | None = Field(None, ge=1, le=256, description="attention heads, instead of the size's")
    bottleneck: int | None = Field(None, ge=1, description="narrow layer of the patch embedding, instead of the size's")

    def dimensions(self) -> Size:
        """Return the size's dimensions with the recipe's own in their place."""
        size = JIT_SIZES[self.size]
        return Size(
            depth=self.depth or size.depth,
            width=self.width or size.width,
            heads=self.heads or size.heads,
            bottleneck=self.bottleneck or size.bottleneck,
            class_tokens=size.class_tokens,
            class_tokens_from=size.class_tokens_from,
        )

    def problems(self, streams: Mapping[str, StreamSpec]) -> Iterator[tuple[str, str]]:
        """Yield clashes between width, heads and rotary positions, and those of the fusion."""
        yield from super().problems(streams)
        size = self.dimensions()
        if size.width % (4 * size.heads):
            yield "heads", f"{size.heads} heads do not divide a width of {size.width} into multiples of 4 (2-D RoPE)"
