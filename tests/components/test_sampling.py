from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from latsem.components.guidance.guidance import Guidance
from latsem.components.registry import available, create
from latsem.components.samplers.sampler import Sampler
from latsem.components.streams import Streams
from latsem.components.velocity import Instants


def shared_clock(instant: float) -> Instants:
    return {"image": instant, "semantic": instant}


def no_noise() -> Streams:
    raise AssertionError("an ODE sampler draws no noise")


def solve(name: str, steps: int) -> float:
    """Solve dx/dt = -2 t x from x(0) = 1; the answer at 1 is exp(-1)."""
    sampler: Sampler = create("sampler", name, steps=steps)

    def velocity(streams: Streams, instants: Instants) -> Streams:
        return {key: -2 * instants[key] * x for key, x in streams.items()}

    start = {"image": torch.ones(1, 1, 1, 1, dtype=torch.float64)}
    return float(sampler.sample(velocity, start, shared_clock, no_noise)["image"])


@pytest.mark.parametrize("name", available("sampler"))
def test_sampler_contract(name: str) -> None:
    """A constant velocity is followed exactly, in every stream's own time, and progress is told."""
    sampler: Sampler = create("sampler", name, steps=4)
    assert isinstance(sampler, Sampler)
    told: list[tuple[int, int]] = []

    def clock(instant: float) -> Instants:
        return {"image": instant, "semantic": min(1.0, 1.5 * instant)}

    start = {"image": torch.randn(2, 3, 2, 2), "semantic": torch.randn(2, 1, 2, 2)}
    rates = {"image": 2.0, "semantic": -3.0}

    def velocity(streams: Streams, instants: Instants) -> Streams:
        return {key: torch.full_like(x, rates[key]) for key, x in streams.items()}

    end = sampler.sample(velocity, start, clock, lambda: start, lambda done, total: told.append((done, total)))
    for key, value in start.items():
        assert torch.allclose(end[key], value + rates[key], atol=1e-5)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_convergence(name: str, order: int) -> None:
    coarse, fine = (abs(solve(name, steps) - math.exp(-1)) for steps in (40, 80))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def model(streams: Streams, instants: Instants, labels: Tensor) -> Streams:
    """A velocity that names its label: v = label."""
    return {key: labels.float()[:, None, None, None].expand_as(x) + 0 * x for key, x in streams.items()}


STREAMS = {"image": torch.zeros(3, 1, 2, 2), "semantic": torch.zeros(3, 1, 2, 2)}
LABELS = torch.tensor([0, 1, 2])
NULL = 5


@pytest.mark.parametrize("name", available("guidance"))
def test_guidance_contract(name: str) -> None:
    guidance: Guidance = create("guidance", name, null_label=NULL)
    assert isinstance(guidance, Guidance)
    out = guidance(model, LABELS)(STREAMS, shared_clock(0.5))
    assert {key: value.shape for key, value in out.items()} == {key: value.shape for key, value in STREAMS.items()}
    # Semantics are never guided by default.
    assert torch.equal(out["semantic"][:, 0, 0, 0], LABELS.float())


def test_classifier_free_guidance_is_its_formula_on_the_chosen_streams() -> None:
    guided = create("guidance", "cfg", null_label=NULL, scale=3.0)(model, LABELS)(STREAMS, shared_clock(0.5))
    expected = NULL + 3.0 * (LABELS.float() - NULL)
    assert torch.allclose(guided["image"][:, 0, 0, 0], expected)
    both = create("guidance", "cfg", null_label=NULL, scale=3.0, streams=["image", "semantic"])
    assert torch.allclose(both(model, LABELS)(STREAMS, shared_clock(0.5))["semantic"][:, 0, 0, 0], expected)


@pytest.mark.parametrize(
    ("settings", "instant", "rows"),
    [({"scale": 3.0}, 0.5, 6), ({"scale": 1.0}, 0.5, 3), ({"scale": 3.0, "interval": [0.2, 0.8]}, 0.1, 3)],
)
def test_guidance_costs_one_batch_and_nothing_where_it_is_off(
    settings: dict[str, object], instant: float, rows: int
) -> None:
    calls: list[int] = []

    def counting(streams: Streams, instants: Instants, labels: Tensor) -> Streams:
        calls.append(len(labels))
        return model(streams, instants, labels)

    create("guidance", "cfg", null_label=NULL, **settings)(counting, LABELS)(STREAMS, shared_clock(instant))
    assert calls == [rows]


def test_interval_must_be_in_order() -> None:
    with pytest.raises(ValueError, match="after its end"):
        create("guidance", "cfg", null_label=NULL, interval=[0.9, 0.1])
