from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latsem.components.processes.flow import Flow
from latsem.components.registry import available, create
from latsem.components.streams import Streams, StreamSpec

SHAPE = (3, 4, 4)


def specs(**changes: object) -> dict[str, StreamSpec]:
    semantic = {"prediction": "v", **changes}
    return {
        "image": StreamSpec("image", 3, 4, 2, prediction="x"),
        "semantic": StreamSpec("semantic", 2, 4, 2, **semantic),  # type: ignore[arg-type]
    }


def draw(process: Flow, batch: int = 5, seed: int = 0) -> tuple[Streams, Streams, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    clean = process.sample_noise(batch, generator)
    return clean, process.sample_noise(batch, generator), process.sample_times(batch, generator)


@pytest.mark.parametrize("name", available("process"))
def test_process_contract(name: str) -> None:
    process = create("process", name, streams=specs())
    clean, noise, times = draw(process)
    assert clean["image"].shape == (5, 3, 4, 4) and clean["semantic"].shape == (5, 2, 4, 4)
    assert all(bool(((t >= 0) & (t <= 1)).all()) for t in times.values())
    noisy = process.noise(clean, noise, times)
    losses = process.losses(noisy, clean, noise, times)
    assert all(loss.shape == (5,) and bool((loss >= 0).all()) for loss in losses.values())
    again = draw(process)
    assert all(torch.equal(a[key], b[key]) for a, b in zip((clean, noise, times), again, strict=True) for key in a)


def test_ends_of_the_path_are_noise_and_data() -> None:
    process = create("process", "flow", streams=specs())
    clean, noise, _ = draw(process)
    for instant, end in ((0.0, noise), (1.0, clean)):
        times = {name: torch.full((5,), instant) for name in clean}
        noisy = process.noise(clean, noise, times)
        assert all(torch.allclose(noisy[name], end[name], atol=1e-6) for name in clean)


def test_perfect_predictions_have_no_loss_and_the_true_velocity() -> None:
    process = create("process", "flow", streams=specs())
    clean, noise, times = draw(process)
    times = {name: t * 0.9 for name, t in times.items()}
    noisy = process.noise(clean, noise, times)
    perfect = {"image": clean["image"], "semantic": clean["semantic"] - noise["semantic"]}
    assert all(float(loss.max()) < 1e-10 for loss in process.losses(perfect, clean, noise, times).values())
    velocity = process.predictions(perfect, noisy, times)
    for name in clean:
        assert torch.allclose(velocity[name], clean[name] - noise[name], atol=1e-4)


def test_x_and_v_predictions_agree() -> None:
    """The same velocity, said either way, has the same loss: |v_x - v|^2 with v_x = (x - x_t) / (1 - t)."""
    x_process = create("process", "flow", streams=specs(prediction="x"))
    v_process = create("process", "flow", streams=specs(prediction="v"))
    clean, noise, times = draw(x_process)
    times = {name: t * 0.9 for name, t in times.items()}
    noisy = x_process.noise(clean, noise, times)
    guess = {name: stream + 0.3 * torch.randn_like(stream) for name, stream in clean.items()}
    as_velocity = {"image": guess["image"], "semantic": x_process.predictions(guess, noisy, times)["semantic"]}
    x_loss, v_loss = (
        process.losses(prediction, clean, noise, times)["semantic"]
        for process, prediction in ((x_process, guess), (v_process, as_velocity))
    )
    assert torch.allclose(x_loss, v_loss, rtol=1e-3)


def test_the_division_by_remaining_noise_has_a_floor() -> None:
    process = create("process", "flow", streams=specs())
    clean, noise, _ = draw(process)
    times = {name: torch.ones(5) for name in clean}
    off_by_one = {"image": clean["image"] + 1, "semantic": clean["semantic"] - noise["semantic"]}
    loss = process.losses(off_by_one, clean, noise, times)["image"]
    assert torch.allclose(loss, torch.full((5,), 1 / 0.05**2), rtol=1e-3)


def test_the_floor_in_the_loss_leaves_the_sampler_alone() -> None:
    process = create("process", "flow", streams=specs(), loss_min_noise=0.25)
    clean, noise, _ = draw(process)
    times = {name: torch.full((5,), 0.9) for name in clean}
    off_by_one = {"image": clean["image"] + 1, "semantic": clean["semantic"] - noise["semantic"]}
    loss = process.losses(off_by_one, clean, noise, times)["image"]
    assert torch.allclose(loss, torch.full((5,), 1 / 0.25**2), rtol=1e-4)
    velocity = process.predictions(off_by_one, process.noise(clean, noise, times), times)["image"]
    assert torch.allclose(velocity, clean["image"] - noise["image"] + 1 / 0.1, atol=1e-3)


@pytest.mark.parametrize("prediction", ["x", "v"])
def test_no_gradient_reaches_the_stream_through_its_target(prediction: str) -> None:
    process = create("process", "flow", streams=specs(prediction=prediction))
    clean, noise, times = draw(process)
    live = clean["semantic"].requires_grad_()
    output = torch.randn_like(live).requires_grad_()
    process.losses({"semantic": output}, clean, noise, times)["semantic"].sum().backward()
    assert live.grad is None and output.grad is not None

    flowing = create("process", "flow", streams=specs(prediction=prediction, stop_gradient=False))
    flowing.losses({"semantic": output}, clean, noise, times)["semantic"].sum().backward()
    assert live.grad is not None and bool((live.grad != 0).any())


def test_gradient_reaches_the_stream_through_the_noisy_input() -> None:
    process = create("process", "flow", streams=specs())
    clean, noise, times = draw(process)
    live = clean["semantic"].requires_grad_()
    process.noise(clean, noise, times)["semantic"].sum().backward()
    assert live.grad is not None
    assert torch.allclose(live.grad[:, 0, 0, 0], times["semantic"], atol=1e-6)


def test_times_follow_their_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = create("process", "flow", streams=specs(), time={"distribution": "uniform"})
    times = uniform.sample_times(20_000, generator)["image"]
    assert abs(float(times.mean()) - 0.5) < 0.01 and abs(float(times.std()) - 12**-0.5) < 0.01
    logit_normal = create("process", "flow", streams=specs(), time={"mean": -0.8, "std": 0.8})
    logits = torch.logit(logit_normal.sample_times(20_000, generator)["image"])
    assert abs(float(logits.mean()) + 0.8) < 0.02 and abs(float(logits.std()) - 0.8) < 0.02


def test_streams_share_a_time_unless_they_have_their_own() -> None:
    shared = draw(create("process", "flow", streams=specs()))[2]
    assert torch.equal(shared["image"], shared["semantic"])
    own = draw(create("process", "flow", streams=specs(own_time=True)))[2]
    assert not torch.equal(own["image"], own["semantic"])


def test_a_stream_with_a_lead_arrives_first() -> None:
    process = create("process", "flow", streams=specs(lead=0.25))
    start, middle, end = (process.path.clock(instant) for instant in (0.0, 0.8, 1.0))
    assert float(start["image"]) == float(start["semantic"]) == 0
    assert float(middle["semantic"]) == 1 and float(middle["image"]) == pytest.approx(0.75)
    assert float(end["image"]) == float(end["semantic"]) == 1


def test_scale_is_undone() -> None:
    process = create("process", "flow", streams=specs(scale=4.0))
    clean, _, _ = draw(process)
    scaled = process.scaled(clean)
    assert torch.equal(scaled["semantic"], 4 * clean["semantic"]) and torch.equal(scaled["image"], clean["image"])
    assert torch.allclose(process.unscaled(scaled)["semantic"], clean["semantic"])


def test_scaling_a_stream_shifts_its_time() -> None:
    """s x at time t has the signal-to-noise ratio of x at s t / (1 + (s-1) t)."""
    scale, t = 4.0, 0.3
    shifted = scale * t / (1 + (scale - 1) * t)
    assert scale * t / (1 - t) == pytest.approx(shifted / (1 - shifted))
