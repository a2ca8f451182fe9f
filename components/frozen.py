"""The base of networks that never learn here."""

from __future__ import annotations

from typing import Self

from torch import nn


class Frozen(nn.Module):
    """A module that stays in evaluation mode whatever contains it."""

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        del mode
        return super().train(False)
