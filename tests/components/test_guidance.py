from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from latsem.components.guidance.guidance import Guidance
from latsem.components.predictor import Instants
from latsem.components.registry import available, create
from latsem.components.streams import Streams

STREAMS = {"image": torch.zeros(3, 1, 2, 2), "semantic": torch.full((3, 1, 2, 2), 7.0)}
LABELS = torch.tensor([0, 1, 2])
NULL = 5
NOW = {"image": 0.5, "semantic": 0.5}


def model(streams: Streams, instants: Instants, labels: Tensor) -> Streams:
    """A prediction that tells what the model was shown: label + 100 where there are semantics; and a variance."""
    seen = labels.float() + 100 * (streams["semantic"].amax((1, 2, 3)) > 0)
    out = {key: seen[:, None, None, None].expand_as(x) + 0 * x for key, x in streams.items()}
    return {**out, "image/variance": out["image"]}


def values(out: Streams, key: str = "image") -> Tensor:
    return out[key][:, 0, 0, 0]


def expected(label: float, semantics: float) -> Tensor:
    full, no_label, no_semantics = LABELS + 100.0, torch.full((3,), NULL + 100.0), LABELS.float()
    return full + (label - 1) * (full - no_label) + (semantics - 1) * (full - no_semantics)


@pytest.mark.parametrize("name", available("guidance"))
def test_guidance_contract(name: str) -> None:
    guidance: Guidance = create("guidance", name, null_label=NULL)
    assert isinstance(guidance, Guidance)
    out = guidance(model, LABELS)(STREAMS, NOW)
    assert {key: out[key].shape for key in STREAMS} == {key: value.shape for key, value in STREAMS.items()}
    assert torch.equal(values(out, "image/variance"), LABELS + 100.0), "variances are not guided"


@pytest.mark.parametrize(
    ("name", "image", "semantic"),
    [
        ("none", (1, 1), (1, 1)),
        ("cfg", (2, 1), (1, 1)),
        ("representation", (1, 1.5), (1, 1.5)),
        ("joint", (2, 1.5), (1, 1.5)),
    ],
)
def test_each_contrast_guides_by_default_the_streams_that_redi_guides(
    name: str, image: tuple[float, float], semantic: tuple[float, float]
) -> None:
    """By label the image alone (`forward_with_cfg_vae`), by semantics all streams (`forward_with_rg`)."""
    out = create("guidance", name, null_label=NULL)(model, LABELS)(STREAMS, NOW)
    assert torch.allclose(values(out, "image"), expected(*image))
    assert torch.allclose(values(out, "semantic"), expected(*semantic))


def test_a_contrast_of_which_one_value_is_given_keeps_its_other_defaults() -> None:
    joint = create("guidance", "joint", null_label=NULL, label={"interval": [0.1, 1]}, semantics={"interval": [0.1, 1]})
    out = joint(model, LABELS)(STREAMS, NOW)
    assert torch.allclose(values(out, "image"), expected(2, 1.5))
    assert torch.allclose(values(out, "semantic"), expected(1, 1.5))


def test_streams_are_named_one_by_one_or_all_at_once() -> None:
    def of(streams: object) -> tuple[Tensor, Tensor]:
        guided = create("guidance", "cfg", null_label=NULL, scale=3.0, streams=streams)(model, LABELS)(STREAMS, NOW)
        assert torch.equal(values(guided, "image/variance"), LABELS + 100.0)
        return values(guided), values(guided, "semantic")

    guided, full = expected(3, 1), expected(1, 1)
    for streams, wanted in [
        ("all", (guided, guided)),
        (["image", "semantic"], (guided, guided)),
        ("semantic", (full, guided)),
        (["image"], (guided, full)),
    ]:
        assert all(torch.equal(one, other) for one, other in zip(of(streams), wanted, strict=True))


def released_cfg(model_out: Tensor, scale: float) -> Tensor:
    """DiT's and SiT's `forward_with_cfg` on the outputs of both halves of its batch; the first half is drawn."""
    eps, rest = model_out[:, :3], model_out[:, 3:]
    conditional, unconditional = eps.chunk(2)
    half = unconditional + scale * (conditional - unconditional)
    return torch.cat([torch.cat([half, half]), rest], dim=1).chunk(2)[0]


@pytest.mark.parametrize("learned_variance", [True, False], ids=["DiT", "SiT"])
def test_three_of_four_channels_are_guided_as_released(learned_variance: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(6, 8 if learned_variance else 4, 2, 2, generator=generator, dtype=torch.float64)
    image, variance = outputs[:, :4], outputs[:, 4:]

    def network(streams: Streams, instants: Instants, labels: Tensor) -> Streams:
        assert labels.tolist() == [0, 1, 2, NULL, NULL, NULL]
        return {"image": image, **({"image/variance": variance} if learned_variance else {})}

    guidance = create("guidance", "cfg", null_label=NULL, scale=1.5, channels=3)
    before = image.clone()
    out = guidance(network, LABELS)({"image": image[:3]}, NOW)
    wanted = released_cfg(outputs, 1.5)
    assert torch.allclose(out["image"], wanted[:, :4], rtol=0, atol=1e-12)
    assert not torch.allclose(out["image"][:, :3], image[:3, :3]) and torch.equal(image, before)
    if learned_variance:
        assert torch.equal(out["image/variance"], wanted[:, 4:])


def test_channels_are_counted_in_the_image_alone() -> None:
    streams = {"image": torch.zeros(3, 4, 2, 2), "semantic": torch.full((3, 8, 2, 2), 7.0)}
    guidance = create("guidance", "representation", null_label=NULL, channels=3)
    out = guidance(model, LABELS)(streams, NOW)
    assert torch.allclose(out["semantic"], expected(1, 1.5)[:, None, None, None].expand(3, 8, 2, 2))
    assert torch.allclose(out["image"][:, :3], expected(1, 1.5)[:, None, None, None].expand(3, 3, 2, 2))
    assert torch.allclose(out["image"][:, 3], expected(1, 1)[:, None, None].expand(3, 2, 2))


@pytest.mark.parametrize("interval", [(0.1, 1.0), (0.0, 1.0), (0.0, 0.5), (0.2, 0.8), (0.3, 0.3)])
def test_the_interval_is_jits(interval: tuple[float, float]) -> None:
    """`(t < high) & ((low == 0) | (t > low))` of JiT's `denoiser.py`, on the grids that its sampler asks at."""
    low, high = interval
    for steps in (10, 20, 50):
        for step in range(steps):
            # A chain of 1,000 steps misses some bounds by rounding: 1 - 900 / 1000 is not 0.1.
            for time in (step / steps, 1 - (1000 - 1000 * step // steps) / 1000):
                exact = Fraction(step, steps)
                on = exact < Fraction(str(high)) and (low == 0 or exact > Fraction(str(low)))
                assert (rows_at(time, interval) == 6) is on, (time, interval)


@pytest.mark.parametrize("interval", [(0.1, 1.0), (0.0, 1.0)])
def test_an_interval_that_leads_to_data_includes_it(interval: tuple[float, float]) -> None:
    """JiT's sampler never asks at t = 1; an adaptive one does, and SiT's is guided there."""
    assert rows_at(1.0, interval) == 6


def rows_at(time: float, interval: tuple[float, float]) -> int:
    """Return how many rows a model is asked about at a time: 6 with guidance, 3 without."""
    calls: list[int] = []

    def counting(streams: Streams, instants: Instants, labels: Tensor) -> Streams:
        calls.append(len(labels))
        return model(streams, instants, labels)

    create("guidance", "cfg", null_label=NULL, interval=list(interval))(counting, LABELS)(
        STREAMS, {"image": time, "semantic": time}
    )
    return calls[0]


def test_classifier_free_guidance_is_its_formula_on_the_chosen_streams() -> None:
    guided = create("guidance", "cfg", null_label=NULL, scale=3.0)(model, LABELS)(STREAMS, NOW)
    assert torch.allclose(values(guided), NULL + 100 + 3.0 * (LABELS.float() - NULL))
    assert torch.allclose(values(guided), expected(3, 1))
    both = create("guidance", "cfg", null_label=NULL, scale=3.0, streams=["image", "semantic"])
    assert torch.allclose(values(both(model, LABELS)(STREAMS, NOW), "semantic"), expected(3, 1))
    unconditional = create("guidance", "cfg", null_label=NULL, scale=0.0)(model, LABELS)(STREAMS, NOW)
    assert torch.allclose(values(unconditional), torch.full((3,), NULL + 100.0))


def test_representation_guidance_is_its_formula() -> None:
    """eps(x, 0) + w (eps(x, z) - eps(x, 0)), the noisy semantic stream itself being zero (ReDi, section 3.5)."""
    guided = create("guidance", "representation", null_label=NULL, scale=1.5)(model, LABELS)(STREAMS, NOW)
    assert torch.allclose(values(guided), LABELS + 1.5 * 100.0)
    assert torch.allclose(values(guided), expected(1, 1.5))


def test_both_guidances_add_their_directions_and_each_alone_is_itself() -> None:
    def joint(label: float, semantics: float) -> Tensor:
        scales = {"label": {"scale": label}, "semantics": {"scale": semantics}}
        return values(create("guidance", "joint", null_label=NULL, **scales)(model, LABELS)(STREAMS, NOW))

    assert torch.allclose(joint(3, 1.5), expected(3, 1.5))
    assert torch.allclose(joint(3, 1), expected(3, 1)) and torch.allclose(joint(1, 1.5), expected(1, 1.5))


@pytest.mark.parametrize(
    ("name", "settings", "instant", "rows"),
    [
        ("cfg", {"scale": 3.0}, 0.5, 6),
        ("cfg", {"scale": 1.0}, 0.5, 3),
        ("cfg", {"scale": 3.0, "interval": [0.2, 0.8]}, 0.1, 3),
        ("representation", {"interval": [0.2, 0.8]}, 0.5, 6),
        ("joint", {}, 0.5, 9),
        ("joint", {"label": {"interval": [0.6, 1.0]}}, 0.5, 6),
        ("joint", {"label": {"scale": 1.0}, "semantics": {"scale": 1.0}}, 0.5, 3),
    ],
)
def test_guidance_costs_one_batch_and_nothing_where_it_is_off(
    name: str, settings: dict[str, object], instant: float, rows: int
) -> None:
    calls: list[int] = []

    def counting(streams: Streams, instants: Instants, labels: Tensor) -> Streams:
        calls.append(len(labels))
        return model(streams, instants, labels)

    guided = create("guidance", name, null_label=NULL, **settings)(counting, LABELS)
    guided(STREAMS, {"image": instant, "semantic": instant})
    assert calls == [rows]


@pytest.mark.parametrize("name", ["cfg", "joint"])
def test_unlabelled_images_are_not_guided_by_labels(name: str) -> None:
    out = create("guidance", name, null_label=0)(model, torch.zeros(3, dtype=torch.long))(STREAMS, NOW)
    assert torch.allclose(values(out), torch.full((3,), 100.0 if name == "cfg" else 150.0))


def test_interval_must_be_in_order() -> None:
    with pytest.raises(ValueError, match="after its end"):
        create("guidance", "cfg", null_label=NULL, interval=[0.9, 0.1])
