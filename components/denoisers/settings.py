"""Settings of the denoisers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
    bottleneck: int | None = None
    class_tokens: int = 0
    class_tokens_from: int = 0


JIT_SIZES: Mapping[str, Size] = {
    "tiny": Size(depth=6, width=128, heads=4),
    "B": Size(depth=12, width=768, heads=12, bottleneck=128, class_tokens=32, class_tokens_from=4),
    "L": Size(depth=24, width=1024, heads=16, bottleneck=128, class_tokens=32, class_tokens_from=8),
    "H": Size(depth=32, width=1280, heads=16, bottleneck=256, class_tokens=32, class_tokens_from=10),
}
"""B, L and H are JiT's (arXiv 2511.13720); tiny is ours, for two CPU cores.

Without a bottleneck: patches of 8 x 8 pixels have 192 values, and one of 128 was slower in a short run.
"""


DIT_SIZES: Mapping[str, Size] = {
    "tiny": Size(depth=6, width=128, heads=4),
    "S": Size(depth=12, width=384, heads=6),
    "B": Size(depth=12, width=768, heads=12),
    "L": Size(depth=24, width=1024, heads=16),
    "XL": Size(depth=28, width=1152, heads=16),
}
"""S to XL are DiT's and SiT's (arXiv 2212.09748, table 1); tiny is ours, for two CPU cores."""


class SizedSettings(DenoiserSettings):
    """Base of the denoisers whose dimensions come by the name of a size, each of them open to change."""

    depth: int | None = Field(None, ge=1, le=256, description="number of blocks, instead of the size's")
    width: int | None = Field(None, ge=8, le=16384, description="token width, instead of the size's")
    heads: int | None = Field(None, ge=1, le=256, description="attention heads, instead of the size's")

    def dimensions(self) -> Size:
        """Return the dimensions that are built."""
        raise NotImplementedError

    def resized(self, size: Size) -> Size:
        """Return a size with the recipe's own dimensions in their place."""
        own = {"depth": self.depth, "width": self.width, "heads": self.heads}
        return replace(size, **{key: value for key, value in own.items() if value is not None})


@register("denoiser", "jit", builds=".jit:JiT")
class JiTSettings(SizedSettings):
    """Plain transformer on large patches: RMSNorm, SwiGLU, RoPE, qk-norm, adaLN-Zero (JiT, arXiv 2511.13720)."""

    size: Literal["tiny", "B", "L", "H"] = Field("tiny", description="sets depth, width and heads")
    bottleneck: int | None = Field(None, ge=1, description="narrow layer of the patch embedding, instead of the size's")

    def dimensions(self) -> Size:
        """Return the size's dimensions with the recipe's own in their place."""
        size = self.resized(JIT_SIZES[self.size])
        return replace(size, bottleneck=self.bottleneck or size.bottleneck)

    def problems(self, streams: Mapping[str, StreamSpec]) -> Iterator[tuple[str, str]]:
        """Yield clashes between width, heads and rotary positions, and those of the fusion."""
        yield from super().problems(streams)
        size = self.dimensions()
        if size.width % (4 * size.heads):
            yield "heads", f"{size.heads} heads do not divide a width of {size.width} into multiples of 4 (2-D RoPE)"


@register("denoiser", "dit", builds=".dit:DiT")
class DiTSettings(SizedSettings):
    """Transformer on latents: LayerNorm, GELU, sin-cos positions, adaLN-Zero (DiT, arXiv 2212.09748)."""

    patch: int = Field(2, ge=1, le=256, description="side of an image token, in pixels or latents (DiT: 2, 4, 8)")
    size: Literal["tiny", "S", "B", "L", "XL"] = Field("tiny", description="sets depth, width and heads")

    def dimensions(self) -> Size:
        """Return the size's dimensions with the recipe's own in their place."""
        return self.resized(DIT_SIZES[self.size])

    def problems(self, streams: Mapping[str, StreamSpec]) -> Iterator[tuple[str, str]]:
        """Yield clashes between width, heads and positions, and those of the fusion."""
        yield from super().problems(streams)
        size = self.dimensions()
        if size.width % size.heads or size.width % 4:
            yield "heads", f"{size.heads} heads do not divide a width of {size.width} (itself a multiple of 4)"


@register("denoiser", "sit", builds=".dit:DiT")
class SiTSettings(DiTSettings):
    """The same network as `dit`, under the name of its flow-matching paper (SiT, arXiv 2401.08740)."""
