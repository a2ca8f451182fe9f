from __future__ import annotations

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
    # Neither semantics nor variances are guided by default.
    assert torch.equal(values(out, "semantic"), LABELS + 100.0)
    assert torch.equal(values(out, "image/variance"), LABELS + 100.0)


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
