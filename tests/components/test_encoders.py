from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from latsem.components.encoders import timm_probe
from latsem.components.encoders.encoder import Encoder
from latsem.components.encoders.settings import TimmSettings
from latsem.components.encoders.timm_family import OWN_MISSPELT
from latsem.components.encoders.timm_table import SHORT_NAMES
from latsem.components.registry import available, create, find, find_listed, listed
from latsem.components.torchvision_import import ensure_torchvision

FAMILIES: dict[str, tuple[int, int]] = {
    "dinov2_small": (56, 70),
    "dinov2_small_reg": (112, 98),
    "dinov3_small": (64, 80),
    "siglip2_base": (64, 112),
    "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m": (96, 80),
    "mae_base": (64, 48),
    "eva02_tiny": (84, 70),
    "vit_tiny": (128, 144),
    "deit3_small": (64, 48),
    "convnext_atto.d2_in1k": (128, 96),
    "swin_tiny_patch4_window7_224.ms_in1k": (128, 224),
    "resnet10t.c3_in1k": (64, 96),
    "imagenet_lite0": (64, 96),
}
"""Names by family, each with image sizes that make an even and an odd number of features a side, if it takes both."""

UNTRAINED: dict[str, dict[str, Any]] = {
    **{name: {} for name in available("encoder")},
    **{name: {"pretrained": False, "image_size": sizes[0]} for name, sizes in FAMILIES.items() if name != "mae_base"},
}
"""Every part and one of every architecture, kept off the network (MAE's is that of supervised ViTs, and large)."""


@pytest.mark.parametrize("name", UNTRAINED)
def test_encoder_contract(name: str) -> None:
    values = UNTRAINED[name]
    settings = find("encoder", name).settings(**values)
    encoder: Encoder = create("encoder", name, **values)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    features = encoder(images)
    side, width = settings.grid(), settings.width()
    assert features.grid.shape == (2, width, side, side) and features.class_token.shape == (2, settings.token_width())
    assert features.grid.dtype == features.class_token.dtype == torch.float32
    assert not features.grid.requires_grad and not any(p.requires_grad for p in encoder.parameters())
    assert torch.equal(create("encoder", name, **values)(images).grid, features.grid)
    encoder.train()
    assert torch.equal(encoder(images).grid, features.grid)
    assert encoder(torch.rand(1, 3, 45, 45)).grid.shape == (1, width, side, side)


@pytest.mark.parametrize("name", [name for name in UNTRAINED if "resnet" not in name and "lite" not in name])
def test_features_lie_where_their_pixels_are(name: str) -> None:
    """A change in one cell of the image moves the features of that cell more than those of any other."""
    encoder: Encoder = create("encoder", name, **UNTRAINED[name])
    side = find("encoder", name).settings(**UNTRAINED[name]).grid()
    cell = 16
    images = torch.rand(16, 3, cell * side, cell * side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    changed = images.clone()
    changed[:, :, cell : 2 * cell, 2 * cell : 3 * cell] = -images[:, :, cell : 2 * cell, 2 * cell : 3 * cell]
    moved = (encoder(changed).grid - encoder(images).grid).abs().sum((0, 1))
    assert divmod(int(moved.argmax()), side) == (1, 2)


def test_encoders_differ() -> None:
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    grids = [create("encoder", name)(images).grid for name in available("encoder")]
    assert all(not torch.allclose(a, b) for i, a in enumerate(grids) for b in grids[:i])


@cache
def timms_model(name: str, image_size: int, file: Path) -> Any:
    """Return what timm itself makes of a weight file."""
    ensure_torchvision()
    overlay = {"file": str(file), "custom_load": False}
    return timm_probe.create(name, image_size, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay).eval()


def resized(images: Tensor, side: int, config: dict[str, Any], *, antialias: bool = True) -> Tensor:
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    normalised = ((images + 1) / 2 - mean) / std
    return F.interpolate(normalised, (side, side), mode="bicubic", antialias=antialias, align_corners=False)


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_timms_own(name: str, tmp_path: Path) -> None:
    """Random weights of the real architecture, from a local file as it is published: bit-equal at both sizes."""
    model, file = find("encoder", name).settings.architecture.model, tmp_path / "model.safetensors"
    published = timm_probe.create(model, int(timm_probe.config(model).input_size[-1]))
    save_file(published.state_dict(), file)
    images = torch.rand(2, 3, 61, 61) * 2 - 1
    for side in FAMILIES[name]:
        encoder: Encoder = create("encoder", name, image_size=side, weights=file)
        network = timms_model(model, side, file)
        prepared = resized(images, side, network.pretrained_cfg)
        with torch.no_grad():
            # What an EfficientNet ends with is behind its head already.
            theirs = network.blocks(network.bn1(network.conv_stem(prepared))) if "lite" in name else None
            theirs = network.forward_features(prepared) if theirs is None else theirs
        ours = encoder(images)
        prefix = getattr(network, "num_prefix_tokens", 0)
        if theirs.ndim == 3:
            assert torch.equal(ours.grid.flatten(2).transpose(1, 2), theirs[:, prefix:])
        else:
            assert torch.equal(ours.grid, theirs if theirs.shape[1] == ours.grid.shape[1] else theirs.movedim(-1, 1))
        if prefix:
            assert torch.equal(ours.class_token, theirs[:, 0])
    timms_model.cache_clear()


def test_dinov2_with_registers_reads_256_patches_of_224_pixels() -> None:
    settings = find("encoder", "dinov2_base_reg").settings(pretrained=False)
    assert (settings.size, settings.grid(), settings.width()) == (224, 16, 768)
    features = create("encoder", "dinov2_base_reg", pretrained=False)(torch.rand(1, 3, 256, 256) * 2 - 1)
    assert features.grid.shape == (1, 768, 16, 16) and features.class_token.shape == (1, 768)


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_the_table_says_what_timm_says(name: str) -> None:
    assert timm_probe.probe(SHORT_NAMES[name].model) == SHORT_NAMES[name]


def test_no_name_of_timm_is_taken_for_a_misspelt_short_one() -> None:
    short = list(SHORT_NAMES)
    bare = {name.partition(".")[0] for name in timm_probe.names()}
    near = {name: get_close_matches(name, short, n=1, cutoff=OWN_MISSPELT) for name in bare | set(timm_probe.names())}
    assert {name: found for name, found in near.items() if found} == {}


def test_names_of_timm_and_patterns_that_fit_one() -> None:
    full = find("encoder", "vit_small_patch16_dinov3.lvd1689m").settings
    assert full.architecture == SHORT_NAMES["dinov3_small"] and full.name == "vit_small_patch16_dinov3.lvd1689m"
    assert find("encoder", "vit_small_patch16_dinov3.l*").settings.name == "vit_small_patch16_dinov3.lvd1689m"
    assert find("encoder", "vit_tiny_patch16_224").settings.architecture.token == 192
    for name, message in [
        ("vit_*dinov2*", "fits 8 networks of timm"),
        ("vit_*nothing*", "no network of timm fits"),
        ("dinov2_bas_reg", "did you mean 'dinov2_base_reg'"),
        ("vit_small_patch16_dinov3.lvd1689", "did you mean 'vit_small_patch16_dinov3.lvd1689m', 'vit_"),
        ("vit_small_patch16_dinov3.absent", "unknown encoder"),
        ("efficientvit_b0.r224_in1k.x", "unknown encoder"),
    ]:
        with pytest.raises(ValueError, match="encoder|network") as error:
            find("encoder", name)
        assert message in str(error.value) and "\n" not in str(error.value)
    assert find_listed("encoder", "vit_small_patch16_dinov3") is None
    assert {"shapes_vit", "dinov2_base_reg"} <= set(listed("encoder"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 225}, "multiple of 14 up to 4096, such as 224 or 238"),
        ({"image_size": 7}, "multiple of 14"),
        ({"layers": [12]}, "there are 12 blocks"),
        ({"layers": [-1, 11]}, "a block is there twice"),
        ({"layers": []}, "at least 1"),
    ],
)
def test_values_that_a_network_cannot_take(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        find("encoder", "dinov2_small").settings(**values)


def test_a_network_that_takes_no_images_of_a_size_says_so() -> None:
    swin = find("encoder", "swin_tiny_patch4_window7_224.ms_in1k").settings
    assert list(swin(image_size=128).problems()) == []
    convnext = find("encoder", "dinov3_convnext_tiny").settings
    assert list(convnext(layers=[0], image_size=64).problems()) == []
    ((key, message),) = convnext(layers=[0], image_size=16).problems()
    assert key == "image_size" and "does not take images of 16 pixels" in message and "\n" not in message
    former = find("encoder", "efficientformer_l1.snap_dist_in1k").settings
    assert list(former(image_size=224).problems()) == []
    ((key, message),) = former(image_size=256).problems()
    assert key == "image_size" and "does not take images of 256 pixels" in message and "\n" not in message
    with pytest.raises(ValueError, match="'inception_v3.tv_in1k' cannot be an encoder: it gives 8x8 features of 299"):
        find("encoder", "inception_v3.tv_in1k")


def test_several_layers_are_concatenated_or_summed() -> None:
    values: dict[str, Any] = {"pretrained": False, "image_size": 56}
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    last = create("encoder", "dinov2_small_reg", **values)(images)
    many = create("encoder", "dinov2_small_reg", layers=[3, -1], **values)
    both, single = many(images), create("encoder", "dinov2_small_reg", layers=[3], **values)(images)
    assert find("encoder", "dinov2_small_reg").settings(layers=[3, -1]).width() == 768
    assert torch.equal(both.grid[:, 384:], last.grid) and torch.equal(both.grid[:, :384], single.grid)
    assert torch.equal(both.class_token, last.class_token) and not torch.equal(single.grid, last.grid)
    sums = create("encoder", "dinov2_small_reg", layers=[3, -1], combine="sum", **values)(images)
    assert torch.equal(sums.grid, single.grid + last.grid)
    normalised = many.network.norm(torch.zeros(1, 384))
    assert torch.allclose(single.grid.mean(1), torch.zeros(2, 4, 4), atol=1e-5) and normalised.shape == (1, 384)


def test_resizing_is_antialiased_unless_asked_otherwise() -> None:
    values: dict[str, Any] = {"pretrained": False, "image_size": 56}
    images = torch.rand(2, 3, 200, 200) * 2 - 1
    for antialias in (True, False):
        encoder = create("encoder", "dinov2_small", antialias=antialias, **values)
        small = resized(images, 56, encoder.network.pretrained_cfg, antialias=antialias)
        theirs = encoder.network.forward_features(small)[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
        assert torch.equal(encoder(images).grid, theirs)


def test_the_largest_batch_alone_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a picture of a few images, or what is left of a data set, does not change how a training encodes."""
    called: list[int] = []
    plain = torch.compile

    def compile_counted(method: Any, **options: Any) -> Any:
        assert options["dynamic"] is False
        compiled = plain(method, **options)
        return lambda images, *rest, **named: (called.append(len(images)), compiled(images, *rest, **named))[1]

    monkeypatch.setattr(torch, "compile", compile_counted)
    encoder = create("encoder", "vit_tiny", pretrained=False, image_size=32)
    encoder.accelerate(backend="eager")
    for count in (2, 4, 1, 4, 2):
        assert encoder(torch.rand(count, 3, 32, 32)).grid.shape[0] == count
    assert called == [2, 4, 4]


def test_acceleration_changes_no_features() -> None:
    values: dict[str, Any] = {"pretrained": False, "image_size": 56}
    images = torch.rand(2, 3, 56, 56) * 2 - 1
    encoder = create("encoder", "dinov2_small_reg", layers=[3, -1], **values)
    before, plain = encoder(images), encoder.network.forward_intermediates
    encoder.accelerate()
    assert encoder.network.forward_intermediates == plain, "on a CPU it does not pay"
    encoder.accelerate(backend="aot_eager")
    after = encoder(images)
    assert encoder.network.forward_intermediates != plain
    assert torch.allclose(after.grid, before.grid, atol=1e-5) and torch.allclose(after.class_token, before.class_token)


@pytest.mark.cuda
def test_compiled_on_cuda_features_stay_close() -> None:
    encoder = create("encoder", "dinov2_base_reg", pretrained=False).cuda()
    images = torch.rand(8, 3, 256, 256, device="cuda") * 2 - 1
    before = encoder(images).grid
    encoder.accelerate()
    assert float((encoder(images).grid - before).norm() / before.norm()) < 0.02


def test_an_open_image_size_follows_the_tokens() -> None:
    settings = find("encoder", "dinov2_base").settings()
    assert isinstance(settings, TimmSettings) and settings.fitted(32).image_size == 448
    assert settings.model_copy(update={"image_size": 224}).fitted(32).image_size == 224
    assert settings.sizes([8, 16]) == [112, 224] and settings.untrained().pretrained is False


def test_what_tells_features_apart_is_not_where_weights_lie(tmp_path: Path) -> None:
    settings = find("encoder", "vit_tiny").settings
    same = (settings(weights=tmp_path), settings(pretrained=False), settings(compile=False), settings(layers=[11]))
    assert all(each.identity() == settings().identity() for each in same)
    others = (settings(image_size=64), settings(layers=[3]), settings(antialias=False), settings(half=False))
    assert all(each.identity() != settings().identity() for each in others)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """Return a weight file of `vit_tiny` with its classifier, as it is published."""
    file = tmp_path / "weights" / "model.safetensors"
    file.parent.mkdir()
    save_file(timm_probe.create("vit_tiny_patch16_224.augreg_in21k", 224).state_dict(), file)
    yield file


def test_weights_come_from_a_file_or_its_folder_with_or_without_a_classifier(tiny: Path) -> None:
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    grids = [create("encoder", "vit_tiny", image_size=64, weights=path)(images).grid for path in (tiny, tiny.parent)]
    tensors = {name: value for name, value in load_file(tiny).items() if not name.startswith("head.")}
    tiny.unlink()
    renamed = tiny.parent / "vit_tiny_patch16_224.augreg_in21k.safetensors"
    save_file(tensors, renamed)
    grids += [
        create("encoder", "vit_tiny", image_size=64, weights=path)(images).grid for path in (renamed, tiny.parent)
    ]
    assert all(torch.equal(grid, grids[0]) for grid in grids)
    random = create("encoder", "vit_tiny", image_size=64, pretrained=False)(images).grid
    assert not torch.equal(random, grids[0])


def _headed(tensors: dict[str, torch.Tensor], **heads: torch.Tensor) -> dict[str, torch.Tensor]:
    body = {name: value for name, value in tensors.items() if not name.startswith("head.")}
    return body | {f"head.{name.replace('_', '.')}": value for name, value in heads.items()}


def test_weights_trained_on_with_another_head_or_inside_a_wrapper_are_read_without_it(tiny: Path) -> None:
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    tensors = load_file(tiny)
    grid = create("encoder", "vit_tiny", image_size=64, weights=tiny)(images).grid
    forms = {
        "ten classes": _headed(tensors, weight=torch.ones(10, 192), bias=torch.ones(10)),
        "two layers": _headed(tensors, **{"0_weight": torch.ones(5, 192), "2_weight": torch.ones(3, 5)}),
        "wrapped": {f"module._orig_mod.{name}": value for name, value in tensors.items()},
        "backbone": {f"model.backbone.{name}": value for name, value in _headed(tensors).items()}
        | {"model.classifier.weight": torch.ones(4, 192)},
    }
    for form, values in forms.items():
        save_file(values, tiny)
        assert torch.equal(create("encoder", "vit_tiny", image_size=64, weights=tiny)(images).grid, grid), form
    # What is cut off is the head alone: a block that is missing, or one too many, is still said.
    for values in (
        {name: value for name, value in forms["ten classes"].items() if not name.startswith("blocks.3.")},
        forms["wrapped"] | {"module._orig_mod.blocks.0.extra": torch.ones(1)},
    ):
        save_file(values, tiny)
        with pytest.raises(ValueError, match="holds another network than vit_tiny_patch16_224"):
            create("encoder", "vit_tiny", image_size=64, weights=tiny)


def test_weights_that_do_not_fit_name_the_first_keys(tiny: Path, tmp_path: Path) -> None:
    tensors = load_file(tiny)
    missing = {name: value for name, value in tensors.items() if not name.startswith("blocks.3.")}
    renamed = {name.replace("norm.weight", "other.weight"): value for name, value in tensors.items()}
    reshaped = {**tensors, "blocks.0.mlp.fc1.bias": torch.zeros(7)}
    for values, first in ((missing, "blocks.3."), (renamed, "norm.weight"), (reshaped, "blocks.0.mlp.fc1.bias")):
        save_file(values, tiny)
        with pytest.raises(ValueError, match="holds another network than vit_tiny_patch16_224") as error:
            create("encoder", "vit_tiny", image_size=64, weights=tiny)
        assert f"first to differ: {first}" in str(error.value) and "\n" not in str(error.value)
    tiny.write_text("no tensors")
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        create("encoder", "vit_tiny", weights=tiny)
    tiny.unlink()
    with pytest.raises(ValueError, match="there is no model.safetensors and no vit_tiny_patch16_224"):
        create("encoder", "vit_tiny", weights=tiny.parent)
    absent = find("encoder", "vit_tiny").settings(weights=tmp_path / "absent")
    assert list(absent.problems()) == [("weights", f"there is no file or folder {tmp_path / 'absent'}")]


def test_weights_that_are_not_here_are_one_line(
    cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    done = cli("run", "latent_redi", "encoder=dinov2_base_reg")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("encoder: model.safetensors of timm/vit_base_patch14_reg4_dinov2.lvd142m is not here")
    assert "connect to the hub" in done.stderr and "encoder.weights=FILE" in done.stderr
    with pytest.raises(ValueError, match=r"no hub repository of vit_huge_patch14_gap_224.in1k_ijepa .*weights=FILE"):
        create("encoder", "ijepa_huge")


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["dinov2_small_reg", "dinov3_small", "siglip2_base"])
def test_half_precision_on_cuda_is_close(name: str) -> None:
    values: dict[str, Any] = {"pretrained": False, "image_size": find("encoder", name).settings().size}
    images = torch.rand(4, 3, 256, 256, device="cuda") * 2 - 1
    half, full = (create("encoder", name, half=half, **values).cuda()(images).grid for half in (True, False))
    assert half.dtype == torch.float32 and not torch.equal(half, full)
    assert float((half - full).norm() / full.norm()) < 0.02
