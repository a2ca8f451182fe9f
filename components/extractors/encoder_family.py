"""Extractors by the names of encoders: `dinov2_large` is `{name: encoder, network: dinov2_large}`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any

from pydantic import Field, create_model

from ..registry import PartField, available, family_of, listed
from ..settings import Settings, near_name
from .settings import EncoderExtractorSettings, NamedEncoderSettings

OWN_MISSPELT = 0.91
"""A name this close to an extractor's own is taken for a slip of the pen, before anybody is asked for an encoder."""


class EncoderFamily:
    """Every encoder, listed where encoders are."""

    elsewhere = "any encoder: latsem list encoders"

    def find(self, name: str) -> type[NamedEncoderSettings] | None:
        """Return the settings of an encoder as an extractor.

        Raises:
            ValueError: why it cannot be an encoder.
        """
        parts, family = available("encoder"), family_of("encoder")
        if name in parts:
            return _settings(name)
        if family is None or get_close_matches(name, available("extractor"), n=1, cutoff=OWN_MISSPELT):
            return None
        found = family.find(name)
        return _settings(found.name) if found is not None else None

    def find_listed(self, name: str) -> type[NamedEncoderSettings] | None:
        """Return nothing: none is listed here."""
        del name
        return None

    def names(self) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    def suggestion(self, name: str, parts: Collection[str]) -> str:
        """Return which extractors or encoders may have been meant."""
        family = family_of("encoder")
        near = near_name(name, [*parts, *listed("encoder")], most=3)
        return near or (family.suggestion(name, ()) if family is not None else "")

    def rows(self, pattern: str | None) -> Iterator[tuple[str, str]]:
        """Yield one row for all; with a pattern none, for encoders list themselves."""
        if pattern is None:
            yield "dinov2_large", "short for {name: encoder, network: dinov2_large}; so is every name of an encoder"


@cache
def _settings(name: str) -> type[NamedEncoderSettings]:
    """Return the settings of one encoder as an extractor."""
    described = EncoderExtractorSettings.model_fields["network"].description
    network: Any = (Annotated[Settings, PartField("encoder")], Field(name, description=described))
    settings = create_model(
        "NamedEncoderSettings",
        __base__=NamedEncoderSettings,
        __module__=NamedEncoderSettings.__module__,
        __doc__=f"Features of the encoder '{name}': short for {{name: encoder, network: {name}}}.",
        network=network,
    )
    settings.kind, settings.name, settings.own = "extractor", name, name
    return settings
