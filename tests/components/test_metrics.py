"""The contract of every metric, and what scores are in closed form."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from latsem.components.feature_set import FeatureSet
from latsem.components.metrics.density_coverage import density_coverage
from latsem.components.metrics.frechet import frechet_distance
from latsem.components.metrics.kernel import squared_discrepancy
from latsem.components.metrics.metric import Metric, Statistics
from latsem.components.metrics.precision_recall import precision_recall
from latsem.components.registry import available, create

WIDTH = 6
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in available("metric")},
    "kernel": ("kernel", {"subset_size": 50, "subsets": 20}),
    "kernel of all": ("kernel", {"subset_size": "all"}),
}
"""Every metric by its defaults, but for a number of images that would take long."""


def random(count: int, width: int = WIDTH, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def statistics(metric: Metric, *batches: Tensor) -> Statistics:
    made = metric.statistics()
    for batch in batches:
        made.update(batch)
    return made


def score(metric: Metric, generated: Tensor, reference: Tensor) -> dict[str, float]:
    return metric.compute(statistics(metric, generated), statistics(metric, reference))


@pytest.fixture(params=VARIANTS)
def metric(request: pytest.FixtureRequest) -> Metric:
    name, values = VARIANTS[request.param]
    made: Metric = create("metric", name, width=WIDTH, **values)
    return made


def test_metric_contract(metric: Metric) -> None:
    """Statistics are additive, and what is further from the reference (or less sure) scores worse by every score."""
    assert isinstance(metric, Metric) and isinstance(metric.statistics(), Statistics)
    data = random(300, dtype=torch.float32)
    whole = statistics(metric, data)
    streamed = statistics(metric, *data[:100].split(7)) + statistics(metric, data[100:])
    near, far = (data * 0.9, data * 0.1) if metric.settings.reference() == "nothing" else (data + 0.1, data + 2)
    better, worse = score(metric, near, data), score(metric, far, data)
    assert streamed.count == whole.count == 300 and metric.statistics().count == 0
    again = metric.compute(streamed, statistics(metric, *data.split(11)))
    assert again == pytest.approx(metric.compute(whole, whole), rel=1e-9, abs=1e-9)
    for name, direction in metric.settings.scores().items():
        assert (better[name] < worse[name]) == (direction == "lower") and better[name] != worse[name]
    assert [name for name in better if not name.endswith("_std")] == list(metric.settings.scores())
    assert all(name.removesuffix("_std") in metric.settings.scores() for name in better)


def test_a_metric_says_how_many_images_it_needs(metric: Metric) -> None:
    data, settings = random(300), metric.settings
    for of_reference, needed in enumerate((settings.samples_needed(WIDTH), settings.reference_needed(WIDTH))):
        if of_reference and settings.reference() == "nothing":
            assert needed == 0 and metric.compute(statistics(metric, data), None) == score(metric, data, data)
            continue
        enough, few = ((data, data[:count]) if of_reference else (data[:count], data) for count in (needed, needed - 1))
        assert all(math.isfinite(value) for value in score(metric, *enough).values())
        which = "reference" if of_reference else "generated"
        with pytest.raises(
            ValueError, match=f"{settings.name} on 6 .*needs at least {needed}, not {needed - 1} {which}"
        ):
            score(metric, *few)
    if settings.reference() != "nothing":
        with pytest.raises(ValueError, match=f"{settings.name} compares with a reference, and there is none"):
            metric.compute(statistics(metric, data), None)


@pytest.mark.cuda
def test_scores_are_equal_on_cuda(metric: Metric) -> None:
    generated, reference = random(300, dtype=torch.float32), random(200, seed=1, dtype=torch.float32) + 0.1
    there = score(metric, generated.cuda(), reference.cuda())
    assert there == pytest.approx(score(metric, generated, reference), rel=1e-9)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_an_error(metric: Metric, value: float) -> None:
    data, broken = random(300), random(300)
    broken[17, 3] = value
    with pytest.raises(ValueError, match=f"{metric.settings.name}.*not"):
        score(metric, broken, data)
    if metric.settings.reference() != "nothing":
        with pytest.raises(ValueError, match=f"{metric.settings.name}.*not"):
            score(metric, data, broken)


def test_no_two_metrics_have_a_score_of_one_name() -> None:
    names = [name for part in available("metric").values() for name in part.settings().scores()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("kernel", {"subset_size": 1}, "at least 2"),
        ("kernel", {"subset_size": "some"}, "'all'"),
        ("precision_recall", {"k": 0}, "greater than or equal to 1"),
        ("inception_score", {"splits": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_have_bounds(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        create("metric", name, width=WIDTH, **values)


def test_vectors_are_kept_once_however_many_read_them() -> None:
    batches = random(30).split(7)
    kept, other = FeatureSet(WIDTH), FeatureSet(WIDTH)
    assert kept.values.shape == (0, WIDTH)
    for batch in batches:
        kept.update(batch)
    other.update(random(5, seed=1))
    assert torch.equal(kept.values, random(30)) and kept.values.data_ptr() == kept.values.data_ptr()
    both = kept + other
    assert torch.equal(both.values, torch.cat([random(30), random(5, seed=1)])) and (kept.count, both.count) == (30, 35)
    one = FeatureSet(WIDTH) + kept
    assert one.values.data_ptr() == kept.values.data_ptr()


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


def test_a_set_is_at_no_frechet_distance_from_itself() -> None:
    assert score(create("metric", "frechet", width=WIDTH), random(50), random(50))["frechet"] < 1e-9


@pytest.mark.parametrize("size", [5, "all"])
def test_kernel_distance_of_two_points_in_closed_form(size: int | str) -> None:
    """All of either set in one point: k(a,a) + k(b,b) - 2 k(a,b) = (2/4 + 1)^3 + 1 - 2 with a.a = 2 and b = 0."""
    metric = create("metric", "kernel", width=4, subset_size=size, subsets=3)
    first, second = torch.tensor([1.0, 1, 0, 0]).expand(5, 4), torch.zeros(8, 4)
    found = score(metric, first, second)
    assert found["kernel"] == pytest.approx(1.5**3 - 1, rel=1e-12)
    assert found.get("kernel_std", 0.0) == pytest.approx(0, abs=1e-12) and ("kernel_std" in found) == (size == 5)


def test_a_kernel_distance_of_few_images_takes_them_all() -> None:
    random = torch.Generator().manual_seed(0)
    first, second = torch.randn(30, 4, generator=random), torch.randn(30, 4, generator=random) + 0.2
    few, exact = (create("metric", "kernel", width=4, subset_size=size) for size in (1000, "all"))
    assert score(few, first, second)["kernel"] == pytest.approx(score(exact, first, second)["kernel"], rel=1e-9)


def test_kernel_distance_of_all_is_the_mean_over_pairs_in_blocks_of_any_size() -> None:
    metric = create("metric", "kernel", width=3, subset_size="all", degree=2, gamma=0.7, coef0=0.2)
    first, second = random(11, 3), random(7, 3, seed=1) + 0.5

    def mean(pairs: list[tuple[Tensor, Tensor]]) -> float:
        return sum((0.7 * float(a @ b) + 0.2) ** 2 for a, b in pairs) / len(pairs)

    within = [mean(list(itertools.permutations(points, 2))) for points in (first, second)]
    expected = sum(within) - 2 * mean(list(itertools.product(first, second)))
    assert score(metric, first, second)["kernel"] == pytest.approx(expected, rel=1e-12)
    for at_once in (1, 4, 11):
        assert squared_discrepancy(first, second, metric.kernel, at_once) == pytest.approx(expected, rel=1e-12)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_precision_recall_density_and_coverage_of_points_on_a_line() -> None:
    """With k = 1 all balls about 0, 1, 2 have radius 1, those about 0.5, 3, 30 have 2.5, 2.5 and 27."""
    reference, generated = column(0, 1, 2), column(0.5, 3, 30)
    # 3 lies on the ball about 2: within it for precision and recall, outside for density and coverage.
    assert precision_recall(generated, reference, 1) == pytest.approx((2 / 3, 1))
    assert density_coverage(generated, reference, 1) == pytest.approx((2 / 3, 2 / 3))
    # Balls of radius 0.5 about 3 and 3.5 reach no data. With k = 2 the ball about 2, of radius 2, alone holds them.
    assert precision_recall(column(3, 3.5), reference, 1) == pytest.approx((1 / 2, 0))
    assert density_coverage(column(3, 3.5), reference, 2) == pytest.approx((1 / 2, 1 / 3))


def test_the_data_itself_has_precision_recall_density_and_coverage_one() -> None:
    data = random(90)
    assert precision_recall(data, data, 3) == (1, 1)
    assert density_coverage(data, data, 5) == pytest.approx((1, 1))


@pytest.mark.parametrize("at_once", [5, 17, 64, 1000])
def test_neighbours_are_those_of_brute_force_in_blocks_of_any_size(at_once: int) -> None:
    """Points of a small lattice, where most distances are equal and many are 0, told exactly by integers."""
    generator = torch.Generator().manual_seed(0)
    generated, reference = (torch.randint(0, 4, (count, 3), generator=generator) for count in (120, 90))
    generated[:8], reference[:8] = torch.tensor([1, 2, 3]), torch.tensor([0, 0, 3])

    def squared(first: Tensor, second: Tensor) -> Tensor:
        return (first[:, None] - second).square().sum(2)

    def radii(points: Tensor, k: int) -> Tensor:
        return torch.stack(
            [torch.cat([row[:i], row[i + 1 :]]).sort()[0][k - 1] for i, row in enumerate(squared(points, points))]
        )

    across = squared(generated, reference)
    closed = across <= radii(reference, 3)
    recalled = across <= radii(generated, 3)[:, None]
    inside = across < radii(reference, 5)
    # Thirds, and far from the origin: no distance is exact any more.
    moved = [points.double() / 3 + 100 / 7 for points in (generated, reference)]
    assert precision_recall(*moved, 3, at_once) == pytest.approx(
        (float(closed.any(1).double().mean()), float(recalled.any(0).double().mean()))
    )
    assert density_coverage(*moved, 5, at_once) == pytest.approx(
        (float(inside.double().sum(1).mean()) / 5, float(inside.any(0).double().mean()))
    )


def test_points_in_one_place_lie_on_their_balls_of_no_size() -> None:
    for place in (0.0, 1 / 3):
        same = torch.full((9, 4), place, dtype=torch.float64)
        assert precision_recall(same, same, 3) == (1, 1) and density_coverage(same, same, 5) == (0, 0)


@pytest.mark.parametrize("splits", [1, 3])
def test_inception_score_of_the_undecided_is_1_and_of_the_sure_the_number_of_classes(splits: int) -> None:
    metric = create("metric", "inception_score", width=5, splits=splits, shuffle=False)
    undecided, sure = torch.zeros(30, 5), 1e4 * torch.eye(5).repeat(6, 1)
    for logits, expected in ((undecided, 1), (sure, 5), (sure[:1].expand(30, 5), 1)):
        found = metric.compute(statistics(metric, logits), None)
        assert found == pytest.approx({"inception_score": expected, "inception_score_std": 0}, abs=1e-9)
