"""Every block and stage of timm's networks, whatever their family."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from latsem.components.encoders import timm_probe
from latsem.components.encoders.settings import TimmSettings
from latsem.components.encoders.timm_family import OWN_WORD_MISSPELT, OWN_WORDS
from latsem.components.encoders.timm_table import SHORT_NAMES
from latsem.components.registry import create, find, parse
from latsem.components.torchvision_import import ensure_torchvision
from latsem.recipes import load

LEFT_OUT = -1
"""A stage that is not compared."""

HIERARCHICAL = {
    "convnext_atto.d2_in1k": (64, [0, 1, 2, 3]),
    "resnet10t.c3_in1k": (64, [0, 1, 2, 3, 4]),
    "regnetx_002.pycls_in1k": (64, [0, 1, 2, 3, 4]),
    "swin_tiny_patch4_window7_224.ms_in1k": (224, [0, LEFT_OUT, 2]),
    "tf_efficientnet_lite0.in1k": (64, [0, 1, 2, 4, 6]),
    "mobilenetv3_large_100.ra_in1k": (64, [0, 1, LEFT_OUT, 4, 6]),
    "ghostnet_100.in1k": (64, [0, LEFT_OUT, LEFT_OUT, 3, 4]),
    "mambaout_femto.in1k": (64, [0, 1, LEFT_OUT, 3]),
    "hiera_tiny_224.mae": (224, [LEFT_OUT, 1, LEFT_OUT, 3]),
}
"""Names with an image size, and which stages are those that timm's own feature extractor gives, in its order.

Swin's last stage is behind a norm that the extractor leaves out.
"""


@cache
def state(name: str) -> dict[str, Tensor]:
    """Return random weights of a network; the moments of its batch norms are no longer those of a new one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = timm_probe.create(name, int(timm_probe.config(name).input_size[-1]))
        kept: dict[str, Tensor] = made.state_dict()
        return {key: value + 0.1 * torch.rand_like(value) if "running" in key else value for key, value in kept.items()}


def theirs(name: str, side: int, images: Tensor) -> list[Tensor]:
    """Return what timm's own feature extractor gives for images of the right size."""
    ensure_torchvision()
    network = timm_probe.create(name, side, features_only=True).eval()
    named = state(name).items()
    # Some extractors wrap the network, others are made of its modules under flat names.
    known = {key: value for old, value in named for key in (old, old.replace(".", "_", 1), f"model.{old}")}
    network.load_state_dict({key: known[key] for key in network.state_dict()})
    config = timm_probe.config(name)
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.mean, config.std))
    with torch.no_grad():
        found = network(((images + 1) / 2 - mean) / std)
    nhwc = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
    return [each.movedim(-1, 1) if nhwc else each for each in found]


@pytest.mark.parametrize("name", HIERARCHICAL)
def test_stages_are_those_of_timms_feature_extractor(name: str, tmp_path: Path) -> None:
    side, stages = HIERARCHICAL[name]
    file = tmp_path / "model.safetensors"
    save_file({key: value.contiguous() for key, value in state(name).items()}, file)
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(2)) * 2 - 1
    part = find("encoder", name).settings
    for stage, expected in zip(stages, theirs(name, side, images), strict=False):
        if stage == LEFT_OUT:
            continue
        settings = part(image_size=side, layers=[stage], weights=file)
        found = create("encoder", name, image_size=side, layers=[stage], weights=file)(images)
        assert found.grid.shape[1:] == (settings.width(), settings.grid(), settings.grid())
        assert found.class_token.shape == (1, settings.token_width())
        assert torch.equal(found.grid, expected), stage


SHAPES = {
    "crossvit_9_240.in1k": ([0], 240, 20, 128),
    "pit_ti_224.in1k": ([-1], 224, 7, 256),
    "vit_relpos_small_patch16_224.sw_in1k": ([3, 11], 224, 14, 768),
    "levit_128s.fb_dist_in1k": ([0], 224, 14, 128),
    "tresnet_m.miil_in1k": ([0], 64, 16, 64),
    "efficientvim_m1.e300_in1k": ([-1], 256, 4, 320),
    "fastvit_t8.apple_in1k": ([-1], 64, 2, 384),
    "coat_tiny.in1k": ([1], 224, 28, 152),
    "sam2_hiera_tiny.fb_r896": ([2], 224, 14, 384),
}
"""Networks that are unlike the others: stages, image size, grid, width."""

LARGE = {
    "naflexvit_base_patch16_gap.e300_s576_in1k": ([2], 64, 4, 768),
    "samvit_base_patch16.sa1b": ([5], 64, 4, 256),
    "vit_base_patch16_sapiens2.fb": ([5], 64, 4, 768),
    "deepseek_vit_412m_enc.deepseek_v4_1_flash": ([-1], 56, 4, 1024),
    "gemma4_vit_167m.gemma4_e4b_it": ([-1], 96, 6, 768),
    "regnety_1280.swag_ft_in1k": ([3], 64, 4, 2904),
}
"""More of them, which are looked at without memory."""


@pytest.mark.parametrize("name", [*SHAPES, *LARGE])
def test_networks_of_every_kind_state_what_they_give(name: str) -> None:
    layers, side, grid, width = {**SHAPES, **LARGE}[name]
    settings = find("encoder", name).settings(layers=layers, image_size=side, pretrained=False)
    assert (settings.grid(), settings.width()) == (grid, width) and list(settings.problems()) == []
    if name in SHAPES:
        features = create("encoder", name, layers=layers, image_size=side, pretrained=False)(torch.rand(1, 3, 50, 40))
        assert features.grid.shape == (1, width, grid, grid)
        assert features.class_token.shape == (1, settings.token_width())


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("imagenet_lite0", {"layers": [7]}, "there are 7 stages to take features of: from -7 to 6"),
        ("imagenet_lite0", {"layers": [6, -1]}, "a stage is there twice"),
        (
            "imagenet_lite0",
            {"layers": [2, 4]},
            "stages of one grid can be joined; pixels a feature of each stage: 0: 2",
        ),
        ("imagenet_lite0", {"layers": [3, 4], "combine": "sum"}, "stages of 80 and 112 channels cannot be added"),
        ("imagenet_lite0", {"layers": [4], "image_size": 72}, "multiple of 16 up to 4096, such as 64 or 80"),
        ("imagenet_lite0", {"image_size": 48}, "multiple of 32 up to 4096, such as 32 or 64"),
        ("crossvit_9_240.in1k", {}, r"lie on no whole number of pixels: take one of the stages 0, 1, 2"),
    ],
)
def test_stages_that_cannot_be_taken(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        find("encoder", name).settings(**values)


def test_the_chosen_stage_decides_the_grid() -> None:
    part = find("encoder", "imagenet_lite0").settings
    found = [(s.width(), s.fitted(4).size, s.size) for s in (part(layers=[stage]) for stage in range(7))]
    assert found == [
        (16, 8, 224), (24, 16, 224), (40, 32, 224), (80, 64, 224), (112, 64, 224), (192, 128, 224), (320, 128, 224),
    ]  # fmt: skip
    joined = part(layers=[4, 3], image_size=64, pretrained=False)
    assert (joined.width(), joined.grid(), joined.token_width()) == (192, 4, 1280)
    assert joined.identity() == part(layers=[-4, -3], image_size=64).identity() != part(image_size=64).identity()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    both, *single = (
        create("encoder", "imagenet_lite0", pretrained=False, image_size=64, layers=layers)(images).grid
        for layers in ([4, 3], [3], [4])
    )
    assert torch.equal(both, torch.cat(single, 1)), "from the first stage to the last, as blocks are"


def test_a_misspelt_name_of_our_own_never_asks_timm() -> None:
    """No name of timm begins with a word that is close to one of ours."""
    ensure_torchvision()
    import timm

    words = {name.partition("_")[0] for name in timm.list_models()}
    for word in words:
        distances = [_ratio(word, own) for own in OWN_WORDS]
        assert max(distances) < OWN_WORD_MISSPELT, word
    assert {name.partition("_")[0] for name in SHORT_NAMES} - set(OWN_WORDS) == {"vit", "eva02", "deit3"}


def _ratio(one: str, other: str) -> float:
    from difflib import SequenceMatcher

    return SequenceMatcher(None, one, other).ratio()


def test_scores_read_a_hierarchical_network_at_the_size_that_it_was_trained_on() -> None:
    assert parse("extractor", "imagenet_lite2").resize() == "bicubic, antialiased, to 224"
    assert parse("extractor", "dinov3_base").resize() == "bicubic, antialiased, to 256"
    judge = parse(
        "extractor", {"name": "imagenet_lite2", "network": {"layers": [5], "image_size": 64}, "pooling": "mean"}
    )
    assert (judge.width(), judge.encoder.grid()) == (208, 2)
    assert parse("extractor", "imagenet_lite2").width() == 1280
    images = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    values = {"layers": [5], "image_size": 64, "pretrained": False}
    extractor = create("extractor", "imagenet_lite2", network=values, pooling="mean")
    grid = create("encoder", "imagenet_lite2", half=False, **values)(images.float() / 127.5 - 1).grid
    assert torch.allclose(extractor(images).features, F.adaptive_avg_pool2d(grid, 1).flatten(1), atol=1e-5)


def test_another_network_in_the_place_of_one_has_its_own_stages_and_size(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    encoder = "{name: imagenet_lite0, layers: [4], image_size: 64, antialias: false, pretrained: false}"
    recipe.write_text(f"base: pixel_redi\nencoder: {encoder}\n")
    kept, swapped = (load(str(recipe), changes).settings.encoder for changes in ([], ["encoder=vit_tiny"]))
    assert isinstance(kept, TimmSettings) and isinstance(swapped, TimmSettings)
    assert (kept.layers, kept.image_size, kept.grid()) == ([4], 64, 4)
    assert (swapped.layers, swapped.image_size, swapped.grid(), swapped.antialias) == ([-1], 64, 4, False)
