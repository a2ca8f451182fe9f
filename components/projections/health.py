"""What a semantic stream holds of the features that it is made of, beside a fixed projection of as many channels.

A projection that learns may lose the meaning of its features while rank, variance and covariance of the stream stay
as they should be. These figures show it. None of them needs more than a sample of the features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .projection import Projection

NEAREST = 10
"""Neighbours that vote on an image's class; as in k-NN evaluations of self-supervised encoders, which take 10 or 20."""

POSITIONS = 4096
"""Positions, and neighbours of them, that are kept of all images together."""


@dataclass(frozen=True)
class FeatureSample:
    """Features of some images.

    Attributes:
        pooled: means over all positions of each image `(N, D)`.
        labels: class of each image `(N,)`; None for unlabelled images.
        positions: features at single positions `(M, D)`.
        neighbours: features at the positions to their right `(M, D)`.
    """

    pooled: Tensor
    labels: Tensor | None
    positions: Tensor
    neighbours: Tensor


class FeatureSampler:
    """Collects a `FeatureSample` from feature grids as they pass.

    Args:
        images: number of images that will pass.
        labelled: whether their labels mean anything.
    """

    def __init__(self, images: int, *, labelled: bool) -> None:
        self.labelled, self._each = labelled, max(1, POSITIONS // images)
        self._generator = torch.Generator().manual_seed(0)
        self._parts: list[tuple[Tensor, ...]] = []

    def add(self, grid: Tensor, labels: Tensor) -> None:
        """Take features `(B, D, h, w)`, `w > 1`, and labels `(B,)`."""
        width = grid.shape[3] - 1
        places = torch.randint(grid.shape[2] * width, (self._each,), generator=self._generator).to(grid.device)
        rows, columns = places // width, places % width
        here, right = (grid[:, :, rows, columns + shift].movedim(1, -1).flatten(0, 1) for shift in (0, 1))
        self._parts.append((grid.float().mean((2, 3)), here.float(), right.float(), labels))

    def sample(self) -> FeatureSample:
        """Return what was collected."""
        pooled, here, right, labels = (torch.cat(parts) for parts in zip(*self._parts, strict=True))
        return FeatureSample(pooled, labels if self.labelled else None, here, right)


def stream_health(projection: Projection, sample: FeatureSample) -> dict[str, float]:
    """Return what the stream of a fitted projection holds, for a sample of the features on its device.

    Returns:
        `accuracy` (only with labels): share of images whose class the nearest pooled streams name.
        `variance`: share of the variance of the standardised features that a linear map recovers from the stream.
        `rank`: effective rank of the stream's covariance.
        `neighbours`: correlation of a channel with itself one position to the right, a mean over channels.
    """
    stream = stream_of_vectors(projection, sample.positions)
    found = {}
    if sample.labels is not None:
        found["accuracy"] = nearest_accuracy(stream_of_vectors(projection, sample.pooled), sample.labels)
    standardized = projection.standardize(sample.positions[..., None, None])[..., 0, 0]
    found["variance"] = held_variance(stream, standardized)
    found["rank"] = effective_rank(stream)
    found["neighbours"] = channel_correlation(stream, stream_of_vectors(projection, sample.neighbours))
    return found


@torch.no_grad()
def stream_of_vectors(projection: Projection, vectors: Tensor) -> Tensor:
    """Return the stream `(N, d)` of feature vectors `(N, D)`, with the statistics that sampling would use."""
    training = projection.training
    projection.eval()
    stream: Tensor = projection(vectors[..., None, None])[..., 0, 0]
    projection.train(training)
    return stream


def nearest_accuracy(vectors: Tensor, labels: Tensor, nearest: int = NEAREST) -> float:
    """Return the share of vectors `(N, d)` whose label most of their nearest others have; a tie goes to the nearer."""
    distances = torch.cdist(vectors.double(), vectors.double())
    distances.fill_diagonal_(torch.inf)
    found = labels[distances.topk(min(nearest, len(vectors) - 1), largest=False).indices]
    # Less than one vote in all, so that it only decides between classes of as many votes.
    votes = 1 + torch.linspace(1, 0, found.shape[1], dtype=torch.float64) / (2 * found.shape[1] ** 2)
    counted = (F.one_hot(found, int(labels.max()) + 1) * votes.to(found.device)[:, None]).sum(1)
    return float((counted.argmax(1) == labels).double().mean())


def held_variance(stream: Tensor, features: Tensor) -> float:
    """Return the share of the variance of features `(M, D)` that a linear map recovers from their stream `(M, d)`."""
    known, wanted = (values.double() - values.double().mean(0) for values in (stream, features))
    basis, _ = torch.linalg.qr(known)
    return float((basis.mT @ wanted).square().sum() / wanted.square().sum())


def effective_rank(stream: Tensor) -> float:
    """Return the exponential of the entropy of the covariance's eigenvalues (Roy and Vetterli, 2007)."""
    shares = torch.linalg.eigvalsh(torch.cov(stream.double().mT).reshape(stream.shape[1], -1)).clamp_min(0)
    shares = shares / shares.sum()
    return math.exp(float(torch.special.entr(shares).sum()))


def channel_correlation(first: Tensor, second: Tensor) -> float:
    """Return the correlation of a channel of one `(M, d)` with the same one of the other, a mean over channels."""
    one, other = (values.double() - values.double().mean(0) for values in (first, second))
    return float((F.normalize(one, dim=0) * F.normalize(other, dim=0)).sum(0).mean())


def principal_angle(first: Tensor, second: Tensor) -> float:
    """Return the mean principal angle between the spans of two streams `(M, d)`, degrees; 0 for the same span."""
    bases = [torch.linalg.qr(values.double() - values.double().mean(0))[0] for values in (first, second)]
    cosines = torch.linalg.svdvals(bases[0].mT @ bases[1]).clamp(0, 1)
    return float(torch.rad2deg(torch.arccos(cosines)).mean())
