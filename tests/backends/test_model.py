from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from latsem.backends.model import JointModel, TrainingBatch
from latsem.backends.space import Observation
from latsem.components.registry import create
from latsem.components.streams import Streams, StreamSpec

FEATURES = 10


def specs(**semantic: object) -> dict[str, StreamSpec]:
    return {
        "image": StreamSpec("image", 3, 8, 4, prediction="x"),
        "semantic": StreamSpec("semantic", 4, 4, 2, prediction="x", **semantic),  # type: ignore[arg-type]
    }


def joint(projection: dict[str, object] | None = None, auto: bool = False, **semantic: object) -> JointModel:
    torch.manual_seed(0)
    streams = specs(**semantic)
    values = dict(projection or {"name": "coevolving"})
    part = create("projection", str(values.pop("name")), features=FEATURES, channels=4, **values)
    part.fit([features(64)])
    denoiser = create("denoiser", "jit", streams=streams, num_classes=0, depth=1, width=32, heads=2, patch=4)
    process = create("process", "flow", streams=streams)
    return JointModel(denoiser, part, process, streams, auto_weights=frozenset({"semantic"} if auto else ()))


def features(batch: int, seed: int = 0) -> Tensor:
    """Ten features: one is the same all over an image and easy to predict, the others are noise."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(batch, FEATURES, 4, 4, generator=generator)
    values[:, 0] = torch.randn(batch, 1, 1, generator=generator)
    return values


def observe(batch: int = 16, seed: int = 0) -> Observation:
    generator = torch.Generator().manual_seed(seed + 1000)
    return Observation(image=torch.randn(batch, 3, 8, 8, generator=generator), features=features(batch, seed))


def step(model: JointModel, seed: int = 0, batch: int = 16) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    noise = model.process.sample_noise(batch, generator)
    times = model.process.sample_times(batch, generator)
    labels = torch.zeros(batch, dtype=torch.long)
    return model(TrainingBatch(observe(batch, seed), labels, noise, times))


def wake(model: JointModel) -> JointModel:
    with torch.no_grad():
        for parameter in model.denoiser.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model


def matrix_gradient(model: JointModel, *terms: str) -> Tensor:
    model.zero_grad()
    losses, _ = step(model)
    torch.stack([losses[name] for name in terms]).sum().backward()
    gradient = model.projection.matrix.grad
    return torch.zeros_like(model.projection.matrix) if gradient is None else gradient


def test_the_projection_learns_from_both_losses_through_the_noisy_input_alone() -> None:
    # A silent network does not look at its input, so nothing is left for the projection to learn from.
    silent = joint()
    assert not bool(matrix_gradient(silent, "semantic").any())
    assert bool(matrix_gradient(joint(stop_gradient=False), "semantic").any())
    awake = wake(joint())
    for term in ("image", "semantic", "cov"):
        assert bool(matrix_gradient(awake, term).any()), term


def test_a_fixed_projection_has_nothing_to_learn() -> None:
    for name in ("pca", "random"):
        model = joint({"name": name})
        assert list(model.projection.parameters()) == []
        terms, _ = step(model)
        assert set(terms) == {"image", "semantic"}


def test_the_projection_moves_and_keeps_unit_variance() -> None:
    model = wake(joint())
    before = model.projection.matrix.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for seed in range(20):
        optimizer.zero_grad()
        terms, log = step(model, seed)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    assert float((model.projection.matrix.detach() - before).norm()) > 0.05
    assert float(log["std/semantic"]) == pytest.approx(1, abs=0.01)


def channel_correlation(steps: int, cov: float) -> float:
    """Return the mean |correlation| between channels after training with the semantic loss alone."""
    model = wake(joint({"name": "coevolving", "regularizer": {"cov": cov}}))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for seed in range(steps):
        optimizer.zero_grad()
        terms, _ = step(model, seed, batch=32)
        (sum(terms.values()) - terms["image"]).backward()
        optimizer.step()
    model.eval()
    stream = model.clean_streams(observe(256, 5))["semantic"].detach()
    correlation = torch.corrcoef(stream.movedim(1, -1).flatten(0, -2).T)
    return float((correlation.abs().sum() - 4) / 12)


def test_a_regularizer_stops_the_collapse_that_happens_without_it() -> None:
    start, free, held = channel_correlation(0, 0.0), channel_correlation(300, 0.0), channel_correlation(300, 1.0)
    assert free > 1.5 * start, (start, free, held)
    assert held < 0.3 * free, (start, free, held)


def test_without_the_norm_and_the_stop_gradient_the_stream_is_flattened() -> None:
    model = wake(joint({"name": "coevolving", "norm": False}, stop_gradient=False))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    first = float(step(model)[1]["std/semantic"])
    for seed in range(150):
        optimizer.zero_grad()
        terms, log = step(model, seed)
        terms["semantic"].backward()
        optimizer.step()
    assert float(log["std/semantic"]) < 0.3 * first


def test_auto_weight_follows_the_std_at_which_a_stream_is_noised() -> None:
    assert joint(auto=True, scale=4.0).weight("semantic") == pytest.approx(2 / 17)
    assert joint(auto=False, weight=0.3).weight("semantic") == 0.3
    pca = joint({"name": "pca"}, auto=True, scale=2.0)
    _, log = step(pca, batch=256)
    std = pca.nominal_std("semantic")
    assert float(log["std/semantic"]) == pytest.approx(std, rel=0.05)
    assert pca.weight("semantic") == pytest.approx(2 / (1 + std**2))


def test_the_loss_is_the_weighted_sum_of_means_per_stream() -> None:
    model = joint(weight=0.25)
    terms, log = step(model)
    assert float(terms["semantic"].detach()) == pytest.approx(0.25 * float(log["error/semantic"]))
    assert float(terms["image"].detach()) == pytest.approx(float(log["error/image"]))


def half_shown(model: JointModel, batch: int = 16) -> tuple[TrainingBatch, Tensor]:
    generator = torch.Generator().manual_seed(0)
    noise, times = model.process.sample_noise(batch, generator), model.process.sample_times(batch, generator)
    shown = (torch.arange(batch) % 2 == 0).float()
    labels = torch.zeros(batch, dtype=torch.long)
    return TrainingBatch(observe(batch), labels, noise, times, shown={"semantic": shown}), shown


def test_an_image_without_semantics_sees_zeros_and_has_no_loss_on_them() -> None:
    """Each image by its own draw, and the noisy stream itself is zeroed: what guidance shows the model later."""
    model = wake(joint({"name": "pca"}))
    seen: list[Tensor] = []
    model.denoiser.embeddings["semantic"].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    batch, shown = half_shown(model)
    terms, log = model(batch)
    assert not bool(seen[0][1::2].any()) and bool(seen[0][::2].flatten(1).any(1).all())
    process, clean = model.process, model.process.scaled(model.clean_streams(batch.observation))
    noisy = process.noise(clean, batch.noise, batch.times)
    noisy["semantic"] = noisy["semantic"] * shown[:, None, None, None]
    predicted = process.scaled_predictions(model.denoiser(process.unscaled(noisy), batch.times, batch.labels))
    errors = process.losses(predicted, clean, batch.noise, batch.times)
    kept = float((errors["semantic"] * shown).mean().detach())
    assert float(terms["semantic"].detach()) == pytest.approx(kept) == pytest.approx(float(log["error/semantic"]))
    assert float(terms["image"].detach()) == pytest.approx(float(errors["image"].mean().detach()))


@pytest.mark.parametrize("prediction", ["x", "v"])
@pytest.mark.parametrize("name", ["representation", "joint"])
def test_a_hidden_stream_is_guided_by_what_is_predicted_of_it(name: str, prediction: str) -> None:
    """`m_0 + w (m - m_0)` of the network's predictions, x or v; the velocity then is that of the stream that is there.

    In velocities of an x-prediction, (x - z) / (1 - t), the branch without semantics must not take its zeros for z.
    """
    streams = {key: replace(spec, prediction=prediction, scale=2.0) for key, spec in specs().items()}
    torch.manual_seed(0)
    denoiser = create("denoiser", "jit", streams=streams, num_classes=3, depth=1, width=32, heads=2, patch=4)
    process = create("process", "flow", streams=streams)
    model = wake(JointModel(denoiser, None, process, streams)).eval()
    generator = torch.Generator().manual_seed(1)
    noisy = process.sample_noise(4, generator)
    labels, time = torch.tensor([0, 1, 2, 0]), 0.7

    def network(shown: Streams, those: Tensor) -> Streams:
        times = dict.fromkeys(streams, torch.full((4,), time))
        with torch.no_grad():
            return process.scaled_predictions(denoiser(process.unscaled(shown), times, those))

    full = network(noisy, labels)
    without = network({**noisy, "semantic": torch.zeros_like(noisy["semantic"])}, labels)
    wanted = {key: without[key] + 1.5 * (full[key] - without[key]) for key in streams}
    if name == "joint":
        wanted["image"] += full["image"] - network(noisy, torch.full((4,), 3))["image"]
    guided = create("guidance", name, null_label=3)(model.predict, labels)(noisy, dict.fromkeys(streams, time))
    for key in streams:
        velocity = wanted[key] if prediction == "v" else (wanted[key] - noisy[key]) / (1 - time)
        assert torch.allclose(guided[key], velocity, atol=1e-4), key


def test_features_are_brought_to_the_image_streams_grid_bilinearly() -> None:
    streams = {**specs(), "semantic": StreamSpec("semantic", 4, 8, 4, prediction="v")}
    projection = create("projection", "pca", features=FEATURES, channels=4)
    projection.fit([features(64)])
    denoiser = create("denoiser", "sit", streams=streams, num_classes=0, depth=1, width=32, heads=2, patch=4)
    model = JointModel(denoiser, projection, create("process", "flow", streams=streams), streams)
    semantic = model.clean_streams(observe())["semantic"]
    own = projection(features(16))
    expected = torch.nn.functional.interpolate(own, (8, 8), mode="bilinear")
    assert torch.equal(semantic, expected)
    # Positions lie at the centres of cells: a fine corner is the coarse corner, an inner one a mixture 3 : 1.
    assert torch.allclose(semantic[:, :, 0, 0], own[:, :, 0, 0])
    assert torch.allclose(semantic[:, :, 0, 1], 0.75 * own[:, :, 0, 0] + 0.25 * own[:, :, 0, 1], atol=1e-6)


def test_a_diffusion_trains_its_variance_by_a_term_of_its_own() -> None:
    streams = {
        "image": StreamSpec("image", 3, 8, 4, prediction="eps", learned_variance=True),
        "semantic": StreamSpec("semantic", 4, 4, 2, prediction="eps", learned_variance=True, weight=0.5),
    }
    projection = create("projection", "pca", features=FEATURES, channels=4)
    projection.fit([features(64)])
    denoiser = create("denoiser", "dit", streams=streams, num_classes=0, depth=1, width=32, heads=2, patch=4)
    model = JointModel(denoiser, projection, create("process", "ddpm", streams=streams), streams)
    terms, log = step(model)
    assert set(terms) == {"image", "image/variance", "semantic", "semantic/variance"}
    assert float(terms["semantic/variance"].detach()) == pytest.approx(0.5 * float(log["error/semantic/variance"]))
    guess = model.predict(draw_noise(model), {"image": 0.5, "semantic": 0.5}, torch.zeros(2, dtype=torch.long))
    assert {key: value.shape[1] for key, value in guess.items()} == {
        "image": 3, "image/variance": 3, "semantic": 4, "semantic/variance": 4,
    }  # fmt: skip


def draw_noise(model: JointModel) -> dict[str, Tensor]:
    return model.process.sample_noise(2, torch.Generator().manual_seed(0))
