from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from latsem.components.projections.batch_norm import SyncedBatchNorm
from latsem.components.projections.coevolving import covariance_penalty, orthogonality_penalty, similarity_penalty
from latsem.components.projections.projection import Projection
from latsem.components.registry import available, create

FEATURES, CHANNELS = 12, 4


def grids(count: int = 6, seed: int = 0) -> list[Tensor]:
    """Correlated features with means and spreads of their own."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(FEATURES, FEATURES, generator=generator)
    values = torch.randn(count, 8, FEATURES, 4, 4, generator=generator)
    return list(torch.einsum("nbfhw,fg->nbghw", values, mix) * 3 + torch.arange(FEATURES)[:, None, None])


def fitted(name: str, **values: object) -> Projection:
    projection: Projection = create("projection", name, features=FEATURES, channels=CHANNELS, **values)
    projection.fit(grids())
    return projection


@pytest.mark.parametrize("name", available("projection"))
def test_projection_contract(name: str) -> None:
    raw = create("projection", name, features=FEATURES, channels=CHANNELS)
    with pytest.raises(RuntimeError, match="not fitted"):
        raw(grids()[0])
    projection = fitted(name).eval()
    stream = projection(grids()[0])
    assert stream.shape == (8, CHANNELS, 4, 4) and stream.dtype == torch.float32
    again = create("projection", name, features=FEATURES, channels=CHANNELS).eval()
    again.load_state_dict(projection.state_dict())
    assert torch.equal(again(grids()[0]), stream)
    everything = projection(torch.cat(grids())).detach()
    rms = float(everything.var((0, 2, 3)).mean().sqrt())
    assert rms == pytest.approx(float(projection.stream_std), rel=0.02)
    assert everything.mean((0, 2, 3)).abs().max() < 0.02 * rms
    with pytest.raises(ValueError, match="cannot project 3 features to 4"):
        create("projection", name, features=3, channels=4)


def test_statistics_do_not_depend_on_the_batches() -> None:
    one, other = (create("projection", "pca", features=FEATURES, channels=CHANNELS) for _ in range(2))
    one.fit(grids())
    other.fit(reversed(torch.cat(grids()).split(5)))
    assert torch.equal(one.matrix, other.matrix) and torch.equal(one.mean, other.mean)


def test_pca_equals_a_singular_value_decomposition() -> None:
    projection = fitted("pca")
    vectors = torch.cat(grids()).double().movedim(1, -1).flatten(0, -2)
    standard = (vectors - vectors.mean(0)) / vectors.std(0)
    _, values, directions = torch.linalg.svd(standard, full_matrices=False)
    cosines = (projection.matrix.double() * directions[:CHANNELS].T).sum(0).abs()
    assert torch.allclose(cosines, torch.ones(CHANNELS, dtype=torch.float64), atol=1e-6)
    variances = (values[:CHANNELS] ** 2 / (len(standard) - 1)).float()
    stream = projection(torch.cat(grids()))
    assert torch.allclose(stream.var((0, 2, 3)), variances, rtol=1e-4)
    white = fitted("pca", whiten=True)(torch.cat(grids()))
    assert torch.allclose(white.var((0, 2, 3)), torch.ones(CHANNELS), rtol=1e-4)


@pytest.mark.parametrize("init", ["orthogonal", "pca"])
def test_coevolving_starts_orthonormal_and_normalises(init: str) -> None:
    projection = fitted("coevolving", init=init)
    gram = projection.matrix.T @ projection.matrix
    assert torch.allclose(gram, torch.eye(CHANNELS), atol=1e-5)
    assert float(orthogonality_penalty(projection.matrix.detach())) < 1e-9
    stream = projection(grids()[0])
    assert torch.allclose(stream.mean((0, 2, 3)), torch.zeros(CHANNELS), atol=1e-5)
    assert torch.allclose(stream.var((0, 2, 3), correction=0), torch.ones(CHANNELS), atol=1e-3)


def test_norm_is_batch_norm() -> None:
    values = torch.randn(6, 3, 4, 4, dtype=torch.float64).float() * 5 + 2
    ours = SyncedBatchNorm(3, eps=1e-4, momentum=0.1)
    theirs = torch.nn.BatchNorm2d(3, eps=1e-4, momentum=0.1, affine=False)
    mine, reference = (values.clone().requires_grad_() for _ in range(2))
    out, expected = ours(mine), theirs(reference)
    assert torch.allclose(out, expected, atol=1e-5)
    weight = torch.randn_like(values)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    assert torch.allclose(mine.grad, reference.grad, atol=1e-5)
    assert torch.allclose(ours.running_mean, theirs.running_mean, atol=1e-6)
    ours.eval()
    assert torch.allclose(
        ours(values),
        (values - ours.running_mean[:, None, None]) / (ours.running_var + 1e-4).sqrt()[:, None, None],
        atol=1e-5,
    )


def _norm_on_one_rank(rank: int, meeting: str, queue: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    values = _norm_input()[rank * 3 : rank * 3 + 3].requires_grad_()
    norm = SyncedBatchNorm(2, eps=1e-4, momentum=0.1)
    out = norm(values)
    (out * _norm_input(1)[rank * 3 : rank * 3 + 3]).sum().backward()
    queue.put((rank, out.detach().numpy(), values.grad.numpy(), norm.running_var.numpy()))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _norm_input(seed: int = 0) -> Tensor:
    return torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def test_norm_over_two_processes_equals_norm_over_their_batches_together(tmp_path: Path) -> None:
    # A file, not a port: one that is free now may be another test's by the time the processes are there.
    meeting = (tmp_path / "meeting").as_uri()
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_norm_on_one_rank, args=(rank, meeting, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    results = sorted((queue.get(timeout=120) for _ in processes), key=lambda result: result[0])
    for process in processes:
        process.join(60)
    values = _norm_input().requires_grad_()
    norm = SyncedBatchNorm(2, eps=1e-4, momentum=0.1)
    out = norm(values)
    (out * _norm_input(1)).sum().backward()
    assert np.allclose(np.concatenate([r[1] for r in results]), out.detach().numpy(), atol=1e-6)
    assert np.allclose(np.concatenate([r[2] for r in results]), values.grad.numpy(), atol=1e-6)
    assert np.allclose(results[0][3], norm.running_var.numpy(), atol=1e-6)


def test_regularizers_are_what_their_formulas_say() -> None:
    generator = torch.Generator().manual_seed(0)
    stream = torch.randn(5, 3, 2, 2, generator=generator)
    vectors = stream.movedim(1, -1).reshape(-1, 3)
    covariance = vectors.T @ vectors / len(vectors)
    brute = sum(covariance[i, j] ** 2 for i in range(3) for j in range(3) if i != j) / 3
    assert torch.isclose(covariance_penalty(stream), brute)

    matrix = torch.randn(7, 3, generator=generator)
    columns = matrix / matrix.norm(dim=0)
    assert torch.isclose(orthogonality_penalty(matrix), (columns.T @ columns - torch.eye(3)).norm() ** 2)

    features = torch.randn(5, 7, 2, 2, generator=generator)
    z, f = stream.flatten(2), features.flatten(2)
    total = 0.0
    for image in range(5):
        for i in range(4):
            for j in range(4):
                cosine_z = torch.cosine_similarity(z[image, :, i], z[image, :, j], dim=0)
                cosine_f = torch.cosine_similarity(f[image, :, i], f[image, :, j], dim=0)
                total += float(((cosine_z - cosine_f).abs() - 0.25).clamp_min(0))
    assert float(similarity_penalty(stream, features)) == pytest.approx(total / (5 * 16), rel=1e-5)


def test_only_weighted_terms_are_computed() -> None:
    projection = fitted("coevolving", regularizer={"cov": 0.0, "ortho": 2.0, "vf": 0.1})
    grid = grids()[0]
    terms = projection.regularizers(grid, projection(grid))
    assert set(terms) == {"ortho", "vf"}
    assert fitted("pca").regularizers(grid, grid) == {}
