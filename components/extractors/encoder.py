"""A semantic encoder as the network of scores."""

from __future__ import annotations

import torch
from torch import Tensor

from ..frozen import Frozen
from ..images import to_unit
from ..registry import build
from .extractor import Extracted
from .settings import EncoderExtractorSettings


class EncoderExtractor(Frozen):
    """One vector an image of what an encoder gives.

    With DINOv2's class token at 224 pixels these are the features of FDD (arXiv 2306.04675). The authors' code
    (layer6ai-labs/dgm-eval) resizes images that it holds in 8 bits to 8 bits again; here nothing is rounded in between.

    Raises:
        ValueError: the encoder's weights are not there, or do not fit.
    """

    def __init__(self, settings: EncoderExtractorSettings) -> None:
        super().__init__()
        self.pooling, self.width = settings.pooling, settings.width()
        try:
            self.network = build(settings.network)
        except ValueError as error:
            # An encoder speaks of the place that it has in most recipes.
            raise ValueError(str(error).replace("encoder.weights", "evaluate.extractor.network.weights")) from None

    @torch.no_grad()
    def forward(self, images: Tensor) -> Extracted:
        """Read images `(B, 3, H, W)` uint8: the class token, or the mean of the grid, `(B, D)`.

        Raises:
            ValueError: the encoder pools to another number of features than its grid has.
        """
        found = self.network(to_unit(images))
        features = found.class_token if self.pooling == "class_token" else found.grid.flatten(2).mean(2)
        if features.shape[1] != self.width:
            raise ValueError(f"its class token has {features.shape[1]} features, not {self.width}: take pooling=mean")
        return Extracted(features.float())
