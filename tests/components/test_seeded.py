"""Weights are a function of their seed, whatever other threads build meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import QUICK_JOINT

from latsem.components.registry import create
from latsem.components.seeded import seeded
from latsem.recipes import load
from latsem.recipes.assemble import image_model


@pytest.fixture
def impatient() -> Iterator[None]:
    """Let threads take turns all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def weights(seed: int) -> torch.Tensor:
    model = image_model(load("pixel_redi", [*QUICK_JOINT, "denoiser.depth=4", f"train.seed={seed}"]), 5).model
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.usefixtures("impatient")
def test_threads_build_what_each_would_build_alone() -> None:
    """Every other one builds a part that draws without a seed of its own."""
    alone = [weights(seed) for seed in range(6)]
    with ThreadPoolExecutor(12) as threads:
        for _ in range(6):
            threads.submit(create, "encoder", "shapes_vit")
        built = list(threads.map(weights, range(6)))
    assert all(torch.equal(one, other) for one, other in zip(alone, built, strict=True))
    assert not torch.equal(alone[0], alone[1])


def test_the_global_generator_stays_where_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    with seeded(7):
        first = torch.rand(3)
    with seeded(7):
        assert torch.equal(first, torch.rand(3))
    assert torch.equal(torch.rand(3), expected)
