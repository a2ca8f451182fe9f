from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from latsem.components.projections.health import (
    FeatureSampler,
    channel_correlation,
    effective_rank,
    held_variance,
    nearest_accuracy,
    principal_angle,
    stream_health,
)
from latsem.components.projections.projection import Projection
from latsem.components.registry import create

FEATURES, IMAGES = 6, 96


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_nearest_name_the_class_and_a_tie_goes_to_the_nearer() -> None:
    far_apart = torch.cat([normal(20, 2), normal(20, 2) + 100])
    labels = torch.arange(40) // 20
    assert nearest_accuracy(far_apart, labels) == 1
    assert nearest_accuracy(far_apart, labels.flip(0).roll(20)) == 1
    # One vote each of two neighbours: the nearer one's class is taken.
    line = torch.tensor([[0.0], [1.0], [3.0]])
    assert nearest_accuracy(line, torch.tensor([1, 1, 0]), 2) == pytest.approx(2 / 3)
    assert nearest_accuracy(line, torch.tensor([0, 1, 1]), 2) == pytest.approx(1 / 3)
    noise = nearest_accuracy(normal(1000, 3), torch.arange(1000) % 4)
    assert noise == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 1000))


def test_held_variance_is_that_of_the_subspace() -> None:
    features = normal(4000, FEATURES) * torch.tensor([3.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    assert held_variance(features[:, :2], features) == pytest.approx(13 / 17, abs=0.02)
    mixed = features[:, :2] @ torch.tensor([[1.0, 2.0], [0.5, -1.0]]) + 7
    assert held_variance(mixed, features) == pytest.approx(held_variance(features[:, :2], features))
    assert held_variance(features, features) == pytest.approx(1)


def test_effective_rank_counts_equal_directions() -> None:
    independent = torch.linalg.qr(normal(500, 4) - normal(500, 4).mean(0))[0]
    assert effective_rank(independent) == pytest.approx(4, abs=0.02)
    assert effective_rank(independent[:, :1].expand(-1, 3)) == pytest.approx(1, abs=1e-4)
    assert effective_rank(independent[:, :1]) == pytest.approx(1)
    weighted = independent * torch.tensor([3.0, 1.0, 0.0, 0.0]).sqrt()
    assert effective_rank(weighted) == pytest.approx(
        math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))), abs=0.02
    )


def test_angle_and_correlation() -> None:
    basis = torch.linalg.qr(normal(300, 3) - normal(300, 3).mean(0))[0]
    basis = torch.linalg.qr(basis - basis.mean(0))[0]
    turned = torch.stack([basis[:, 0] * math.cos(0.5) + basis[:, 2] * math.sin(0.5), basis[:, 1]], 1)
    assert principal_angle(basis[:, :2], turned) == pytest.approx(math.degrees(0.5) / 2, rel=1e-3)
    assert principal_angle(basis[:, :2], basis[:, :2] @ normal(2, 2)) == pytest.approx(0, abs=0.05)
    assert channel_correlation(basis, -basis) == pytest.approx(-1)
    assert channel_correlation(basis[:, :1], basis[:, 1:2]) == pytest.approx(0, abs=1e-5)


def grids() -> tuple[Tensor, Tensor]:
    """Feature 0 says the class and is the same all over an image; the others are noise at every position."""
    labels = torch.arange(IMAGES) % 2
    values = normal(IMAGES, FEATURES, 4, 4)
    values[:, 0] = (labels * 2.0 - 1)[:, None, None] + 0.1 * values[:, 0]
    return values, labels


def looking_at(feature: int) -> Projection:
    projection: Projection = create("projection", "coevolving", features=FEATURES, channels=1)
    projection.fit([grids()[0]])
    with torch.no_grad():
        projection.matrix.copy_(torch.eye(FEATURES)[:, feature : feature + 1])
    return projection.train()


def test_a_stream_is_as_healthy_as_what_it_looks_at() -> None:
    values, labels = grids()
    sampler = FeatureSampler(IMAGES, labelled=True)
    for part in (slice(0, 40), slice(40, IMAGES)):
        sampler.add(values[part], labels[part])
    sample = sampler.sample()
    assert torch.allclose(sample.pooled, values.mean((2, 3)), atol=1e-6) and torch.equal(sample.labels, labels)
    meaning, noise = (stream_health(looking_at(feature), sample) for feature in (0, 1))
    assert meaning["accuracy"] == 1 and noise["accuracy"] < 0.7
    assert meaning["neighbours"] > 0.9 and abs(noise["neighbours"]) < 0.1
    for found in (meaning, noise):
        assert found["variance"] == pytest.approx(1 / FEATURES, abs=0.05) and found["rank"] == pytest.approx(1)


def test_neighbours_lie_to_the_right_and_nothing_is_left_changed() -> None:
    ramp = torch.arange(5.0).expand(2, FEATURES, 3, 5)
    sampler = FeatureSampler(2, labelled=False)
    sampler.add(ramp, torch.zeros(2))
    sample = sampler.sample()
    assert sample.labels is None and torch.equal(sample.neighbours, sample.positions + 1)
    projection = looking_at(0)
    before = {name: value.clone() for name, value in projection.state_dict().items()}
    found = stream_health(projection, sample)
    assert set(found) == {"variance", "rank", "neighbours"} and projection.training
    assert all(torch.equal(value, before[name]) for name, value in projection.state_dict().items())
