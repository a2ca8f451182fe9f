"""ReDi's file of principal components (arXiv 2504.16064), and what it means for a projection here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...components.projections.pca import PCAProjection
from ..errors import UserError
from .pickles import Array, BufferArray, FittedPCA, read_pickle

Vector = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class PublishedPCA:
    """Statistics of features `(D,)`, and components of the standardised features; all float64.

    Attributes:
        mean: of the features `(D,)`.
        std: of the features `(D,)`.
        offset: mean of the standardised features `(D,)` as the PCA took it; up to 0.55 in ReDi's file, so it counts.
        components: one a row `(n, D)`, orthonormal.
        variance: of the standardised features along each component `(n,)`.
        whiten: whether components are brought to unit variance.
    """

    mean: Vector
    std: Vector
    offset: Vector
    components: Vector
    variance: Vector
    whiten: bool

    def fill(self, projection: PCAProjection) -> None:
        """Make a projection the published one, `((f - mean) / std - offset) @ components^T`.

        The offset goes into the mean, as ours has none; a whitened component is divided by its std.

        Raises:
            ValueError: too few components, or components of other features.
        """
        count, features = self.components.shape
        if count < projection.channels:
            raise ValueError(f"has {count} components; the network takes {projection.channels}")
        if features != projection.features:
            raise ValueError(f"is of {features} features; the encoder gives {projection.features}")
        variance = self.variance[: projection.channels]
        spread = np.sqrt(np.maximum(variance, np.finfo(np.float32).eps)) if self.whiten else np.ones_like(variance)
        projection.mean.copy_(torch.from_numpy(self.mean + self.std * self.offset))
        projection.std.copy_(torch.from_numpy(self.std))
        projection.matrix.copy_(torch.from_numpy((self.components[: projection.channels] / spread[:, None]).T))
        projection.stream_std.fill_(float(np.sqrt((variance / spread**2).mean())))
        projection.fitted.fill_(True)


def read_pca(path: Path) -> PublishedPCA:
    """Read `{pca_model, mean, std}`, as ReDi's code saves it; only numbers are read, and nothing is run.

    Raises:
        UserError: no such file, or not such a file.
    """
    try:
        return _interpreted(read_pickle(path))
    except OSError as error:
        raise UserError(f"--pca: {path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"--pca: {path}: {error}") from None


def _interpreted(values: Any) -> PublishedPCA:
    model = values.get("pca_model") if isinstance(values, Mapping) else None
    if not isinstance(model, FittedPCA) or not isinstance(model.state, Mapping):
        raise ValueError("is not ReDi's file of components (a dict with 'pca_model', 'mean' and 'std')")
    whiten = model.state.get("whiten", False)
    if not isinstance(whiten, bool):
        raise ValueError("does not say whether its components are whitened")
    pca = PublishedPCA(
        mean=_numbers(values, "mean", 1),
        std=_numbers(values, "std", 1),
        offset=_numbers(model.state, "mean_", 1),
        components=_numbers(model.state, "components_", 2),
        variance=_numbers(model.state, "explained_variance_", 1),
        whiten=whiten,
    )
    count, features = pca.components.shape
    if not pca.mean.shape == pca.std.shape == pca.offset.shape == (features,) or pca.variance.shape != (count,):
        raise ValueError("has a mean, std or variance that does not fit its components")
    if not bool((pca.std > 0).all()) or not bool((pca.variance >= 0).all()):
        raise ValueError("has a std that is not positive, or a negative variance")
    return pca


def _numbers(values: Mapping[Any, Any], key: str, dimensions: int) -> Vector:
    value = values.get(key)
    if not isinstance(value, Array | BufferArray):
        raise ValueError(f"has no array '{key}'")
    array = value.resolve().astype(np.float64)
    if array.ndim != dimensions or not bool(np.isfinite(array).all()):
        raise ValueError(f"has an array '{key}' that is not {dimensions}-dimensional, or not finite")
    return array
