"""The ImageNet recipes: they parse, fit together, and build the published networks with the papers' settings."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from latsem.backends.errors import UserError
from latsem.components.registry import build
from latsem.recipes.catalogue import catalogue
from latsem.recipes.derive import stream_specs
from latsem.recipes.layers import find_recipe, read_layers, shipped_recipes
from latsem.recipes.recipe import Recipe, check, load

CLASSES = 1000
SHIPPED = sorted(name for name in shipped_recipes() if name.startswith("imagenet"))

# SiT and DiT: DiT, table 4, and the sizes that ReDi gives; JiT: JiT, tables 7 and 8.
PARAMETERS = {"B": 130e6, "L": 458e6, "XL": 675e6}
PARAMETERS_JIT = {"B": 131e6, "L": 459e6}
MULTIPLY_ADDS = {("B", 256): 23.0e9, ("L", 256): 80.7e9, ("XL", 256): 118.6e9, ("XL", 512): 525e9}
MULTIPLY_ADDS_JIT = {("B", 256): 25e9, ("L", 256): 88e9}

ALONE = {
    "imagenet256/latent_redi_b": "imagenet256/sit_b",
    "imagenet256/latent_redi_xl": "imagenet256/sit_xl",
    "imagenet256/latent_redi_ddpm_b": "imagenet256/dit_b",
    "imagenet256/latent_redi_ddpm_xl": "imagenet256/dit_xl",
    "imagenet256/latent_coredi_b": "imagenet256/sit_b",
    "imagenet256/latent_coredi_xl": "imagenet256/sit_xl",
    "imagenet256/pixel_redi_b": "imagenet256/pixel_jit_b",
    "imagenet256/pixel_coredi_b": "imagenet256/pixel_jit_b",
    "imagenet256/pixel_coredi_l": "imagenet256/pixel_jit_l",
}
"""A joint recipe, and the one without a semantic stream."""


@cache
def recipe(name: str) -> Recipe:
    """Return a recipe as it is, without looking for the data."""
    return check(name, "", read_layers(find_recipe(name), ()), data="unused")


@cache
def resolved(name: str) -> dict[str, Any]:
    return recipe(name).resolved()


@cache
def network(name: str) -> tuple[int, float]:
    """Return the trained parameters of a recipe's denoiser, and the multiply-adds of a forward pass of one image."""
    settings = recipe(name).settings
    specs = stream_specs(settings)
    with torch.device("meta"):
        denoiser = build(settings.denoiser, streams=specs, num_classes=CLASSES)
        streams = {key: torch.empty(1, *spec.shape) for key, spec in specs.items()}
        times, labels = {key: torch.empty(1) for key in specs}, torch.empty(1, dtype=torch.long)
    # The plain form of attention, whose products are counted whatever the fused kernels are called.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        denoiser(streams, times, labels)
    trained = sum(parameter.numel() for parameter in denoiser.parameters() if parameter.requires_grad)
    return trained, counter.get_total_flops() / 2


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Return overrides by which a recipe finds labelled images, few as they are."""
    root = tmp_path_factory.mktemp("imagenet")
    for label in ("n01440764", "n01443537"):
        (root / label).mkdir()
        Image.new("RGB", (300, 260)).save(root / label / "image.jpg")
    return (f"data.root={root}", "data.expect_images=null", "data.expect_classes=null", "evaluate.reference=50000")


def different(one: str, other: str) -> set[str]:
    first, second = resolved(one), resolved(other)
    return {key for key in first if first[key] != second[key]}


def test_there_are_as_many_as_announced() -> None:
    sizes = {
        "sit": ("b", "xl"),
        "dit": ("b", "xl"),
        "latent_redi": ("b", "l", "xl"),
        "latent_redi_ddpm": ("b", "xl"),
        "latent_coredi": ("b", "xl"),
        "pixel_jit": ("b", "l"),
        "pixel_redi": ("b",),
        "pixel_coredi": ("b", "l"),
    }
    named = {f"imagenet256/{family}_{size}" for family, those in sizes.items() for size in those}
    assert set(SHIPPED) == named | {"imagenet512/latent_redi_xl"}
    ((_, rows),) = catalogue("recipes")
    listed = dict(rows)
    assert all("arXiv" in listed[name] and listed[name].endswith(".") for name in SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_header_says_what_it_needs_and_what_to_expect(name: str) -> None:
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    assert text.isascii() and all(len(line) <= 120 for line in text.splitlines())
    assert f"#   latsem run recipes/{name}.yaml fabric.devices=8" in text
    assert "# Hardware: " in text and "# Expected: " in text


@pytest.mark.parametrize("name", SHIPPED)
def test_with_its_data_it_loads_without_a_warning_and_is_named_with_its_folder(
    name: str, found: tuple[str, ...]
) -> None:
    loaded = load(name, found)
    assert loaded.warnings == () and loaded.name == name.replace("/", "-")
    assert load(shipped_recipes()[name], found).name == loaded.name


def test_runs_of_two_sizes_are_told_apart(found: tuple[str, ...], tmp_path: Path) -> None:
    names = {load(f"imagenet{side}/latent_redi_xl", found).name for side in (256, 512)}
    assert names == {"imagenet256-latent_redi_xl", "imagenet512-latent_redi_xl"}
    own = tmp_path / "imagenet256" / "mine.yaml"
    own.parent.mkdir()
    own.write_text("base: imagenet256/latent_redi_xl\n")
    assert load(own, found).name == "mine"


def test_without_its_data_it_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        load("imagenet256/sit_b")
    assert any("data.root" in line and "data/imagenet/train" in line for line in caught.value.problems)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_network_is_the_published_one(name: str) -> None:
    settings = recipe(name).settings
    jit = settings.denoiser.name == "jit"
    size, side = settings.denoiser.size, settings.data.side
    parameters, multiply_adds = network(name)
    assert parameters == pytest.approx((PARAMETERS_JIT if jit else PARAMETERS)[size], rel=0.01)
    assert multiply_adds == pytest.approx((MULTIPLY_ADDS_JIT if jit else MULTIPLY_ADDS)[size, side], rel=0.02)


def test_the_small_size_of_the_papers_is_theirs_too() -> None:
    settings = recipe("imagenet256/sit_b").settings
    with torch.device("meta"):
        small = build(
            settings.denoiser.model_copy(update={"size": "S"}), streams=stream_specs(settings), num_classes=CLASSES
        )
    assert sum(p.numel() for p in small.parameters() if p.requires_grad) == pytest.approx(33e6, rel=0.01)


@pytest.mark.parametrize("name", ALONE)
def test_the_semantic_stream_costs_next_to_nothing(name: str) -> None:
    (joint, joint_cost), (alone, cost) = network(name), network(ALONE[name])
    assert 0 < joint - alone < 0.001 * alone
    assert 0 < joint_cost - cost < 0.001 * cost


@pytest.mark.parametrize("name", SHIPPED)
def test_data_and_training_are_the_papers(name: str) -> None:
    values = resolved(name)
    side = int(name.partition("/")[0].removeprefix("imagenet"))
    data = {
        "root": str(Path("data/imagenet/train").absolute()),
        "image_size": side,
        "metadata": "ignore",
        "expect_images": 1_281_167,
        "expect_classes": CLASSES,
    }
    assert values["data"].items() >= data.items()
    # ReDi's released training reads stored latents and images as they are; CoReDi's recipes differ in the projection.
    assert values["data"]["flip"] is ("latent" not in name)
    common = {"weight_decay": 0.0, "clip": 0.0, "ema": 0.9999, "class_dropout": 0.1, "semantic_dropout": 0.0}
    if "pixel" in name:
        # JiT: 5e-5 for each 256 images; an epoch is 1,251 steps, 600 of them, 5 of warm-up.
        own = {"steps": 600 * 1251, "batch_size": 1024, "lr": 2e-4, "betas": [0.9, 0.95], "warmup": 5 * 1251}
        assert values["tokenizer"]["name"] == "pixel" and values["sampler"] == {"name": "heun", "steps": 50}
        assert values["process"]["time"] == {"distribution": "logit_normal", "mean": -0.8, "std": 0.8}
        assert (values["process"]["prediction"], values["process"]["min_noise"]) == ("x", 0.05)
        assert values["guidance"]["interval"] == [0.1, 1.0] and values["guidance"]["streams"] == ["image"]
        assert values["guidance"]["scale"] == {"B": 2.9, "L": 2.4}[values["denoiser"]["size"]]
    else:
        own = {"steps": 400_000, "batch_size": 256, "lr": 1e-4, "betas": [0.9, 0.999], "warmup": 0}
        assert values["tokenizer"]["model"] == "stabilityai/sd-vae-ft-ema" and values["guidance"] == {"name": "none"}
    assert values["train"].items() >= (common | own).items()


@pytest.mark.parametrize("name", [name for name in SHIPPED if "pixel" not in name])
def test_processes_and_samplers_in_latents_are_the_papers(name: str) -> None:
    values = resolved(name)
    if values["denoiser"]["name"] == "dit":
        ddpm = {"steps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "learned_variance": True}
        assert values["process"] == {"name": "ddpm", **ddpm}
        assert values["sampler"] == {"name": "ddpm", "steps": 250, "variance": "auto"}
        return
    sde = {"steps": 250, "form": "sigma", "norm": 1.0, "last": "mean", "last_step_size": 0.04}
    assert values["sampler"] == {"name": "sde", **sde}
    assert values["process"]["prediction"] == "v" and values["process"]["time"]["distribution"] == "uniform"


@pytest.mark.parametrize("name", [name for name in SHIPPED if "latent_redi" in name])
def test_redi_in_latents_is_as_published(name: str) -> None:
    values = resolved(name)
    encoder = {"name": "dinov2_base_reg", "image_size": 224 * values["data"]["image_size"] // 256, "antialias": False}
    assert values["encoder"].items() >= encoder.items() and values["encoder"]["layers"] == [-1]
    assert values["projection"] == {"name": "pca", "channels": 8, "whiten": False, "fit_images": 79_167_488 // 256}
    stream = values["streams"]["semantic"]
    assert (stream["grid"], stream["scale"], stream["weight"], stream["own_time"]) == ("image", 1.0, 1.0, False)
    assert values["denoiser"]["fusion"]["name"] == "merged"


@pytest.mark.parametrize("size", ["latent:b", "latent:xl", "pixel:b"])
def test_redi_and_coredi_differ_in_the_projection(size: str) -> None:
    """And in latents in how images are resized for the encoder, where ReDi's released code is followed."""
    space, _, letter = size.partition(":")
    redi, coredi = (f"imagenet256/{space}_{method}_{letter}" for method in ("redi", "coredi"))
    others = different(redi, coredi) - {"projection"}
    assert resolved(redi)["projection"]["name"] == "pca" and resolved(coredi)["projection"]["name"] == "coevolving"
    assert others <= ({"encoder"} if space == "latent" else set())
    one, other = resolved(redi)["encoder"], resolved(coredi)["encoder"]
    assert {key for key in one if one[key] != other[key]} <= {"antialias"}


def test_coredi_is_ours_as_documented() -> None:
    projection = resolved("imagenet256/latent_coredi_xl")["projection"]
    assert (projection["channels"], projection["init"], projection["lr"]) == (8, "orthogonal", None)
    assert projection["regularizer"] == {"cov": 0.1, "ortho": 0.0, "vf": 0.0}
    assert projection == resolved("imagenet256/pixel_coredi_l")["projection"]


@pytest.mark.parametrize("name", ALONE)
def test_a_joint_recipe_adds_a_stream_and_nothing_else(name: str) -> None:
    """But that ReDi, in latents, does not mirror images."""
    mirrored = {"data"} if "latent" in name else set()
    assert different(name, ALONE[name]) == {"encoder", "projection", "streams"} | mirrored
    assert resolved(name)["data"] | {"flip": True} == resolved(ALONE[name])["data"]


def test_the_side_of_the_images_is_one_value() -> None:
    small, large = "imagenet256/latent_redi_xl", "imagenet512/latent_redi_xl"
    assert different(small, large) == {"data", "encoder", "evaluate"}
    scored, other = resolved(small)["evaluate"], resolved(large)["evaluate"]
    assert {key for key in scored if scored[key] != other[key]} == {"reference"}
    assert resolved(large)["encoder"] == {**resolved(small)["encoder"], "image_size": 448}, "which follows from it"
    assert resolved(large)["data"] == {**resolved(small)["data"], "image_size": 512}
    assert stream_specs(recipe(large).settings)["semantic"].shape == (8, 64, 64)
