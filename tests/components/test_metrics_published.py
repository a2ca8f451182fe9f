"""The same features, the same numbers as torch-fidelity's and torchmetrics'."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latsem.components.metrics.kernel import squared_discrepancy
from latsem.components.registry import create
from latsem.components.torchvision_import import ensure_torchvision

WIDTH = 20


@pytest.fixture(scope="module", autouse=True)
def _torchvision() -> None:
    ensure_torchvision()


@pytest.fixture(scope="module")
def features() -> tuple[Tensor, Tensor]:
    """Return generated and reference features, float64, of two Gaussians that lie near each other."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64) / 4
    first, second = (torch.randn(count, WIDTH, generator=generator, dtype=torch.float64) for count in (700, 900))
    return first @ mix + 0.2, second @ mix


def scores(name: str, generated: Tensor, reference: Tensor, **values: Any) -> dict[str, float]:
    metric = create("metric", name, width=generated.shape[1], **values)
    sets = [metric.statistics() for _ in range(2)]
    for batch in generated.split(64):
        sets[0].update(batch)
    sets[1].update(reference)
    found: dict[str, float] = metric.compute(*sets)
    return found


def test_frechet_distance_is_theirs(features: tuple[Tensor, Tensor]) -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    ours = scores("frechet", *features)["frechet"]
    (theirs,) = fid_statistics_to_metric(*map(fid_features_to_statistics, features), verbose=False).values()
    assert ours == pytest.approx(theirs, rel=1e-9)
    moments = [value for each in features for value in (each.mean(0), each.T.cov())]
    assert ours == pytest.approx(float(_compute_fid(*moments)), rel=1e-9)


@pytest.mark.parametrize(("size", "seed"), [(100, 2020), (333, 7), (700, 0)])
def test_kernel_distance_is_theirs(features: tuple[Tensor, Tensor], size: int, seed: int) -> None:
    from torch_fidelity.metric_kid import kid_features_to_metric

    ours = scores("kernel", *features, subset_size=size, subsets=13, seed=seed)
    drawn = {"kid_subset_size": size, "kid_subsets": 13, "rng_seed": seed}
    theirs = kid_features_to_metric(*features, **drawn, verbose=False)
    assert list(ours.values()) == pytest.approx(list(theirs.values()), rel=1e-9)


def test_the_defaults_are_theirs() -> None:
    from torch_fidelity.defaults import DEFAULTS

    kernel, score, recall = (
        create("metric", name, width=2).settings for name in ("kernel", "inception_score", "precision_recall")
    )
    assert (kernel.subset_size, kernel.subsets) == (DEFAULTS["kid_subset_size"], DEFAULTS["kid_subsets"])
    assert (kernel.degree, kernel.coef0) == (DEFAULTS["kid_kernel_poly_degree"], DEFAULTS["kid_kernel_poly_coef0"])
    assert kernel.gamma == "auto" and DEFAULTS["kid_kernel_poly_gamma"] is None
    assert kernel.seed == score.seed == DEFAULTS["rng_seed"] and score.shuffle == DEFAULTS["samples_shuffle"]
    assert (score.splits, recall.k) == (DEFAULTS["isc_splits"], DEFAULTS["prc_neighborhood"])


def test_kernel_distance_of_every_pair_is_that_of_torchmetrics(features: tuple[Tensor, Tensor]) -> None:
    from torchmetrics.image.kid import poly_mmd

    first, second = features[0][:400], features[1][:400]
    ours = squared_discrepancy(first, second, create("metric", "kernel", width=WIDTH).kernel)
    assert ours == pytest.approx(float(poly_mmd(first, second)), rel=1e-9)
    assert ours == pytest.approx(scores("kernel", first, second, subset_size="all")["kernel"], rel=1e-12)
    assert ours == pytest.approx(scores("kernel", first, second, subset_size=400, subsets=1)["kernel"], rel=1e-9)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_precision_and_recall_are_theirs(features: tuple[Tensor, Tensor], k: int) -> None:
    from torch_fidelity.metric_prc import prc_features_to_metric

    ours = scores("precision_recall", *features, k=k)
    theirs = prc_features_to_metric(*features, prc_neighborhood=k, verbose=False)
    assert ours == pytest.approx({name: theirs[name] for name in ours}, rel=1e-6)
    assert 0 < ours["precision"] < 1 and 0 < ours["recall"] < 1


@pytest.mark.parametrize(("splits", "shuffle"), [(10, True), (7, False)])
def test_inception_score_is_theirs(features: tuple[Tensor, Tensor], splits: int, shuffle: bool) -> None:
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = 3 * features[0]
    ours = scores("inception_score", logits, logits[:0], splits=splits, shuffle=shuffle)
    assert list(ours.values()) == pytest.approx(
        list(isc_features_to_metric(logits, splits, shuffle).values()), rel=1e-9
    )


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore`", "ignore:std")
def test_inception_score_in_one_part_is_that_of_torchmetrics(features: tuple[Tensor, Tensor]) -> None:
    from torchmetrics.image.inception import InceptionScore

    theirs = InceptionScore(feature=nn.Flatten(), splits=1)
    theirs.update(features[0][:, :, None, None])
    ours = scores("inception_score", features[0], features[0], splits=1)["inception_score"]
    assert ours == pytest.approx(float(theirs.compute()[0]), rel=1e-9)
