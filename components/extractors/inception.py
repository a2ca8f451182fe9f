"""The network of published FIDs: Inception v3 as torch-fidelity has it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..frozen import Frozen
from ..releases import fetch, require_whole
from ..seeded import seeded
from ..torchvision_import import ensure_torchvision
from ..user_cache import expanded
from ..weight_files import read_state
from ..weights import fill
from .extractor import Extracted
from .settings import InceptionSettings

WHAT = "torch-fidelity's Inception v3"
REMEDY = "fetch it where there is a connection, and give its path, evaluate.extractor.weights=FILE"


class Inception(Frozen):
    """Inception v3 (arXiv 1512.00567) in TensorFlow's graph of December 2015, ported by torch-fidelity.

    Features are its last pooled layer, and logits come without their bias, as in the original code of FID (arXiv
    1706.08500) and of the Inception score (arXiv 1606.03498).

    Raises:
        ValueError: the weights are not there, cannot be fetched, are damaged, or are another network's.
    """

    def __init__(self, settings: InceptionSettings) -> None:
        super().__init__()
        self.network, path = _untrained(), _weights(settings)
        if path is None:
            _stir(self.network)
        else:
            _load(self.network, path)
        self.network.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Extracted:
        """Read images `(B, 3, H, W)` uint8: features `(B, 2048)` and logits `(B, 1008)`."""
        features, logits = self.network(images)
        return Extracted(features, logits)


def _library() -> Any:
    ensure_torchvision()
    from torch_fidelity import feature_extractor_inceptionv3  # noqa: PLC0415

    return feature_extractor_inceptionv3


def _untrained() -> Any:
    """Return the network as it is before any weights are loaded.

    While it is built it loads weights, from the internet or by unpickling anything. Here it is given an empty file in
    memory, and what it is to have is loaded afterwards, by rules of our own.
    """
    published = _library().FeatureExtractorInceptionV3

    class Untrained(published):  # type: ignore[misc, valid-type]
        def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any) -> Any:
            del state_dict, args

        def to(self, *args: Any) -> Any:
            # float32 it is already, and parameters without memory (`latsem check`) cannot be converted.
            del args
            return self

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with seeded(0):
        built = Untrained("inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=nothing)
    # From here on it is what was published: it can be loaded and moved.
    built.__class__ = published
    return built


def _stir(network: nn.Module) -> None:
    """Draw weights, always the same, that keep the scale of what goes through: torch's own lose it in fifty layers."""
    with seeded(0):
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def _weights(settings: InceptionSettings) -> Path | None:
    """Return the file of weights, fetched if need be; None for random ones."""
    if settings.weights is not None:
        return expanded(settings.weights)
    if not settings.pretrained:
        return None
    try:
        return fetch(_library().URL_INCEPTION_V3)
    except ValueError as error:
        raise ValueError(f"the file of {WHAT}, {error}; {REMEDY}") from None


def _load(network: Any, path: Path) -> None:
    try:
        require_whole(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"weights: {error}") from None
    try:
        fill(network, read_state(path))
    except ValueError as error:
        raise ValueError(f"weights: {path} does not fit {WHAT}: it {error}") from None
