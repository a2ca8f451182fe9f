"""Settings of the fusions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...registry import register
from ...settings import Settings
from ...streams import IMAGE, StreamSpec


class FusionSettings(Settings):
    """Base of every fusion's settings."""

    def problems(self, streams: Mapping[str, StreamSpec]) -> Iterator[str]:
        """Yield what keeps these streams from being fused."""
        del streams
        return iter(())


@register("fusion", "merged", builds=".merged:Merged")
class MergedSettings(FusionSettings):
    """Embeddings are added token by token: as many tokens as the image alone (ReDi's default)."""

    def problems(self, streams: Mapping[str, StreamSpec]) -> Iterator[str]:
        """Yield every stream whose tokens do not cover whole squares of the image's."""
        wanted = streams[IMAGE].token_grid
        for name, spec in streams.items():
            if wanted % spec.token_grid:
                yield (
                    f"merged tokens need grids that divide the image's, but '{name}' has "
                    f"{spec.token_grid}x{spec.token_grid} tokens and the image {wanted}x{wanted}"
                )


@register("fusion", "separate", builds=".separate:Separate")
class SeparateSettings(FusionSettings):
    """Streams keep tokens of their own: twice as many for two streams of one grid, and grids need not match (ReDi)."""
