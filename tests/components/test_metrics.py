from __future__ import annotations

import math

import pytest
import torch

from latsem.components.metrics.frechet import frechet_distance
from latsem.components.metrics.metric import Metric, Statistics
from latsem.components.registry import available, create


@pytest.mark.parametrize("name", available("metric"))
def test_metric_contract(name: str) -> None:
    """Statistics add up, a set is at no distance from itself, and worse is worse."""
    metric: Metric = create("metric", name, width=6)
    assert isinstance(metric, Metric)
    data = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))

    def statistics(*batches: torch.Tensor) -> Statistics:
        made = metric.statistics()
        for batch in batches:
            made.update(batch)
        return made

    whole = statistics(data)
    halves = statistics(*data[:100].split(7)) + statistics(data[100:])
    near, far = statistics(data + 0.1), statistics(data + 2)
    assert metric.compute(whole, halves) == pytest.approx(0, abs=1e-9)
    better, worse = metric.compute(near, whole), metric.compute(far, whole)
    assert (better < worse) == metric.lower_is_better
    with pytest.raises(ValueError, match="at least 7 images, there are 5 generated"):
        metric.compute(statistics(data[:5]), whole)
    with pytest.raises(ValueError, match="not finite"):
        metric.compute(statistics(data, torch.full((3, 6), math.nan)), whole)


def test_frechet_distance_of_two_gaussians_in_closed_form() -> None:
    """Commuting covariances: |m1 - m2|^2 + sum (s1 - s2)^2 over the shared axes."""
    generator = torch.Generator().manual_seed(1)
    axes, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=generator))
    std_a, std_b = (torch.rand(5, dtype=torch.float64, generator=generator) + 0.1 for _ in range(2))
    mean_a, mean_b = (torch.randn(5, dtype=torch.float64, generator=generator) for _ in range(2))
    covariance_a, covariance_b = ((axes * std**2) @ axes.T for std in (std_a, std_b))
    expected = (mean_a - mean_b).square().sum() + (std_a - std_b).square().sum()
    assert frechet_distance(mean_a, covariance_a, mean_b, covariance_b) == pytest.approx(float(expected), rel=1e-10)


def test_frechet_distance_of_singular_covariances_is_finite() -> None:
    line = torch.zeros(4, 4, dtype=torch.float64)
    line[0, 0] = 4.0
    zero = torch.zeros(4, dtype=torch.float64)
    assert frechet_distance(zero, line, zero, torch.zeros_like(line)) == pytest.approx(4.0)
    assert frechet_distance(zero, line, zero, line) == pytest.approx(0.0, abs=1e-12)
