"""Where the losses push a coevolving projection, on a linear-Gaussian model in which every gradient is known.

Features are two independent standard normals, `s` and `n`. The image is `x = s`, so that `n` means nothing. The stream
is `z = cos(a) s + sin(a) n`, and the network is the best linear estimator of `x` and `z` from `x_t` and `z_t`.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from latsem.backends.model import JointModel, TrainingBatch
from latsem.backends.space import Observation
from latsem.components.registry import create
from latsem.components.streams import StreamSpec

ANGLE, TIME, IMAGES, SHARE = 0.6, 0.5, 400_000, 0.25


def estimator() -> Tensor:
    """Return the weights `(2, 2)` of the best linear estimates of `x` and `z` (rows) from `x_t` and `z_t`."""
    clean = torch.tensor([[1.0, math.cos(ANGLE)], [math.cos(ANGLE), 1.0]])
    noisy = TIME**2 * clean + (1 - TIME) ** 2 * torch.eye(2)
    return TIME * clean @ torch.linalg.inv(noisy)


class BestLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(estimator())

    def forward(self, streams: dict[str, Tensor], times: object, labels: object) -> dict[str, Tensor]:
        stacked = torch.cat([streams["image"], streams["semantic"]], 1)
        image, semantic = torch.einsum("oi,bihw->bohw", self.weights, stacked).split(1, 1)
        return {"image": image, "semantic": semantic}


def model(**projection: object) -> JointModel:
    streams = {name: StreamSpec(name, 1, 1, 1, prediction="x") for name in ("image", "semantic")}
    part = create("projection", "coevolving", features=2, channels=1, regularizer={"cov": 0}, **projection)
    part.fit([torch.randn(64, 2, 1, 1)])
    part.mean.zero_()
    part.std.fill_(1)
    with torch.no_grad():
        part.matrix.copy_(torch.tensor([[math.cos(ANGLE)], [math.sin(ANGLE)]]))
    process = create("process", "flow", streams=streams)
    return JointModel(BestLinear(), part, process, streams)  # type: ignore[arg-type]


def batch(share: float | None) -> TrainingBatch:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(IMAGES, 2, 1, 1, generator=generator)
    noise = {name: torch.randn(IMAGES, 1, 1, 1, generator=generator) for name in ("image", "semantic")}
    times = dict.fromkeys(noise, torch.full((IMAGES,), TIME))
    live = {} if share is None else {"semantic": (torch.rand(IMAGES, generator=generator) < share).float()}
    observation = Observation(image=features[:, :1], features=features)
    return TrainingBatch(observation, torch.zeros(IMAGES, dtype=torch.long), noise, times, live=live)


def turn(term: str, share: float | None = None, **projection: object) -> float:
    """Return the derivative of a loss with respect to the angle of the projection."""
    joint = model(**projection)
    losses, _ = joint(batch(share))
    (gradient,) = torch.autograd.grad(losses[term], [joint.projection.matrix], allow_unused=True)
    if gradient is None:
        return 0.0
    return float(gradient[:, 0] @ torch.tensor([-math.sin(ANGLE), math.cos(ANGLE)]))


def expected(term: str) -> float:
    """Return the same in closed form; errors of clean streams count `1 / (1 - t)^2` as errors of velocities."""
    (a, a_z), (b, b_z) = estimator().tolist()
    if term == "image":
        derivative = 2 * a_z * TIME * math.sin(ANGLE) * (1 - a * TIME)
    else:
        derivative = -2 * b_z * TIME * b * TIME * math.sin(ANGLE)
    return derivative / (1 - TIME) ** 2


def test_the_image_loss_turns_towards_the_meaning_and_the_semantic_loss_away_from_it() -> None:
    assert expected("image") > 0 > expected("semantic")
    for term in ("image", "semantic"):
        assert turn(term) == pytest.approx(expected(term), rel=0.03), term


def test_learning_from_the_image_alone_leaves_its_gradient_and_nothing_else() -> None:
    settings = {"learns_from": "image", "live_share": SHARE}
    assert turn("image", SHARE, **settings) == pytest.approx(SHARE * expected("image"), rel=0.06)
    assert turn("semantic", SHARE, **settings) == 0


def test_the_network_learns_the_semantics_from_the_other_images_as_much_as_from_all() -> None:
    whole, shared = model(), model(learns_from="image", live_share=SHARE)
    gradients = []
    for joint, share in ((whole, None), (shared, SHARE)):
        with torch.no_grad():
            joint.denoiser.weights.mul_(0.5)
        losses, log = joint(batch(share))
        gradients.append(torch.autograd.grad(losses["semantic"], [joint.denoiser.weights])[0])
        assert float(losses["semantic"].detach()) == pytest.approx(float(log["error/semantic"]), rel=0.02)
    assert torch.allclose(*gradients, rtol=0.02, atol=0.02)
