"""The contract of every extractor, and the two that published scores are made with."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from latsem.components.encoders import timm_probe
from latsem.components.extractors import inception
from latsem.components.extractors.extractor import Extracted, Extractor
from latsem.components.extractors.settings import ExtractorSettings
from latsem.components.images import to_unit
from latsem.components.registry import available, create, find, listed, parse
from latsem.components.releases import fetch

UNTRAINED: dict[str, dict[str, Any]] = {
    **{name: {} for name in available("extractor")},
    "inception": {"pretrained": False},
    "encoder": {"network": {"name": "vit_tiny", "pretrained": False, "image_size": 64}, "pooling": "mean"},
    "shapes_dino": {},
    "dinov3_small": {"network": {"pretrained": False, "image_size": 48, "layers": [3, -1]}},
}
"""Every part, an encoder by its name, and one of several layers, kept off the network."""


def pictures(count: int = 3, side: int = 40, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


@cache
def made(name: str) -> Any:
    return create("extractor", name, **UNTRAINED[name])


def settings_of(name: str, **values: Any) -> Any:
    return parse("extractor", {"name": name, **values})


@pytest.mark.parametrize("name", UNTRAINED)
def test_extractor_contract(name: str) -> None:
    extractor: Extractor = made(name)
    settings, images = settings_of(name, **UNTRAINED[name]), pictures()
    before = images.clone()
    found = extractor(images)
    assert isinstance(extractor, Extractor) and isinstance(settings, ExtractorSettings)
    assert found.features.shape == (3, settings.width()) and found.features.dtype == torch.float32
    assert (found.logits is None) == (settings.logits() == 0)
    if found.logits is not None:
        assert found.logits.shape == (3, settings.logits()) and found.logits.dtype == torch.float32
    assert not found.features.requires_grad and not any(p.requires_grad for p in extractor.parameters())
    assert torch.equal(images, before)
    again = create("extractor", name, **UNTRAINED[name])(images)
    assert torch.equal(again.features, found.features)
    assert again.logits is found.logits is None or torch.equal(again.logits, found.logits)
    extractor.train()
    assert torch.equal(extractor(images).features, found.features)
    one_by_one = torch.cat([extractor(image[None]).features for image in images])
    spread = found.features.std(0).mean()
    # Some untrained networks tell images apart by little more than the rounding of their features.
    rounding = 4 * torch.finfo(torch.float32).eps * found.features.abs().max()
    assert spread > 4 * rounding and (one_by_one - found.features).abs().max() < 1e-3 * spread + rounding
    assert extractor(pictures(1, 57)).features.shape == (1, settings.width())


@pytest.mark.parametrize("name", UNTRAINED)
def test_extractor_settings_contract(name: str) -> None:
    settings = settings_of(name, **UNTRAINED[name])
    assert str(max(32, *(int(word) for word in settings.resize().split() if word.isdigit()))) in settings.resize()
    assert json.loads(json.dumps(settings.identity())) == settings.identity()
    assert parse("extractor", settings.model_dump(mode="json")) == settings
    assert settings.untrained().width() == settings.width() and not list(settings.problems())


def test_the_scoring_network_reads_8_bits_as_it_read_them_in_unit_range() -> None:
    """Recorded before extractors took 8 bits: scores made with it go on."""
    features = create("extractor", "shapes_scorer")(pictures(2, 32)).features
    recorded = torch.tensor([[-2.355201, -2.332162, 1.424078, -4.870540], [-3.432617, -1.440111, 1.880185, -4.894316]])
    assert torch.allclose(features[:, :4], recorded, rtol=1e-5, atol=1e-5)


# Encoders


@pytest.mark.parametrize("name", ["shapes_dino", "dinov2_small", "vit_tiny"])
def test_an_encoder_by_name_gives_its_class_token_bit_by_bit(name: str) -> None:
    values: dict[str, Any] = {} if name == "shapes_dino" else {"pretrained": False}
    images = pictures(2, 61)
    extractor, encoder = create("extractor", name, network=values), create("encoder", name, **values)
    assert torch.equal(extractor(images).features, encoder(to_unit(images)).class_token)
    pooled = create("extractor", "encoder", network={"name": name, **values}, pooling="mean")(images).features
    assert torch.equal(pooled, encoder(to_unit(images)).grid.flatten(2).mean(2))


def test_fdd_reads_dinov2s_class_token_at_224_pixels_with_the_weights_of_a_file(tmp_path: Path) -> None:
    network = timm_probe.create("vit_small_patch14_dinov2.lvd142m", 518).eval()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    extractor = create("extractor", "dinov2_small", network={"weights": tmp_path})
    images = pictures(1, 224)
    mean, std = (torch.tensor(network.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    resized = timm_probe.create(
        "vit_small_patch14_dinov2.lvd142m",
        224,
        pretrained=True,
        num_classes=0,
        pretrained_cfg_overlay={"file": str(tmp_path / "model.safetensors"), "custom_load": False},
    ).eval()
    with torch.no_grad():
        theirs = resized.forward_features((images / 255 - mean) / std)[:, 0]
    assert torch.allclose(extractor(images).features, theirs, atol=1e-4)


def test_the_name_of_an_encoder_is_short_for_it() -> None:
    settings = settings_of("dinov2_large")
    assert (settings.kind, settings.name, settings.network.name) == ("extractor", "dinov2_large", "dinov2_large")
    assert (settings.width(), settings.logits(), settings.resize()) == (1024, 0, "bicubic, antialiased, to 224")
    assert settings_of("encoder").network == settings.network == settings_of("encoder", network="dinov2_large").network
    assert settings_of("shapes_dino", network="shapes_dino") == settings_of("shapes_dino")
    values = {"half": True, "weights": "/somewhere"}
    chosen = settings_of("dinov2_large", network=values)
    assert chosen.network.half and not settings.network.half
    assert [key for key, _ in chosen.problems()] == ["network.weights"]
    assert chosen.untrained().network.weights is None
    assert chosen.identity() == settings_of("dinov2_large", network={"half": True}).identity()
    assert settings_of("vit_small_patch16_dinov3.l*").name == "vit_small_patch16_dinov3.lvd1689m"
    layers = settings_of("dinov2_large", network={"layers": [3, -1]})
    assert layers.width() == 1024 and settings_of("encoder", network=layers.network, pooling="mean").width() == 2048


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("shapes_scorr", "unknown extractor 'shapes_scorr', did you mean 'shapes_scorer'"),
        ("shapes_dno", "did you mean 'shapes_dino'"),
        ("dinov2_larg", "did you mean 'dinov2_large'.*or any encoder: latsem list encoders"),
        ("vit_*dinov2*", "fits 8 networks of timm"),
        ({"name": "shapes_dino", "network": "shapes_vit"}, "is 'shapes_vit', but extractor 'shapes_dino'"),
        ({"name": "dinov2_large", "network": {"hlf": False}}, "unknown key, did you mean 'half'"),
        ({"name": "encoder", "network": "shapes_dno"}, "unknown encoder 'shapes_dno', did you mean 'shapes_dino'"),
    ],
)
def test_wrong_names_and_settings_are_explained(value: object, message: str) -> None:
    with pytest.raises((ValueError, ValidationError), match=message):
        parse("extractor", value)


def test_encoders_are_not_listed_twice() -> None:
    assert set(listed("extractor")) == set(available("extractor"))
    assert find("extractor", "shapes_dino").summary.startswith("Features of the encoder 'shapes_dino'")


# Inception


@cache
def state() -> dict[str, Tensor]:
    """Return weights of the real architecture, other ones than those of an untrained network."""
    made = create("extractor", "inception", pretrained=False).network.state_dict()
    return {key: value.flip(0) if value.ndim == 4 else value for key, value in made.items()}


def saved(folder: Path, values: object) -> Path:
    """Return a file of weights, with its digest in its name."""
    torch.save(values, folder / "weights.pth")
    digest = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()
    return (folder / "weights.pth").rename(folder / f"weights-{digest[:8]}.pth")


def test_inception_is_torch_fidelitys_bit_by_bit(tmp_path: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path, images = saved(tmp_path, state()), pictures(2, 75)
    found: Extracted = create("extractor", "inception", weights=path)(images)
    theirs = FeatureExtractorInceptionV3("any", ["2048", "logits_unbiased"], feature_extractor_weights_path=path)
    features, logits = theirs(images)
    assert torch.equal(found.features, features) and found.logits is not None and torch.equal(found.logits, logits)
    assert not torch.allclose(found.features, made("inception")(images).features)


class Harmful:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_weights_that_are_wrong_are_one_line(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(ValueError) as error:
            create("extractor", "inception", weights=path)
        assert "\n" not in str(error.value) and str(error.value).startswith(f"weights: {path} ")
        return str(error.value)

    other = dict(state())
    other["fc.weight"] = torch.zeros(10, 2048)
    assert "does not fit torch-fidelity's Inception v3: it has another shape of 'fc.weight'" in refused(
        saved(tmp_path, other)
    )
    assert "misses 'Conv2d_1a_3x3.conv.weight', " in refused(saved(tmp_path, {"a": torch.zeros(1)}))
    assert "misses" in refused(saved(tmp_path, {})) and "holds one list" in refused(saved(tmp_path, [1, 2]))
    whole = saved(tmp_path, state())
    damaged = bytearray(whole.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    whole.write_bytes(damaged)
    digest = hashlib.sha256(damaged).hexdigest()[:8]
    assert f"is damaged: its SHA-256 begins with {digest}, its name says {whole.stem[-8:]}" in refused(whole)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(damaged[:5000])
    assert "is not a checkpoint that torch.save wrote" in refused(cut)
    harmful = tmp_path / "harmful.pth"
    harmful.write_bytes(pickle.dumps({"fc.weight": Harmful(tmp_path / "done")}, protocol=2))
    assert "holds 'posix.mkdir': only tensors and plain values" in refused(harmful)
    assert not (tmp_path / "done").exists()
    assert [*settings_of("inception", weights="/nowhere.pth").problems()] == [
        ("weights", "there is no file /nowhere.pth")
    ]


def test_weights_that_cannot_be_fetched_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(inception._library(), "URL_INCEPTION_V3", "http://127.0.0.1:9/x/weights-0123abcd.pth")
    with pytest.raises(ValueError) as error:
        create("extractor", "inception")
    said = str(error.value)
    assert "\n" not in said and said.startswith(
        "the file of torch-fidelity's Inception v3, weights-0123abcd.pth is not"
    )
    assert "cannot be fetched from 127.0.0.1:9 (URLError: " in said
    assert said.endswith("and give its path, evaluate.extractor.weights=FILE")


def test_weights_are_fetched_once_and_only_as_their_name_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    published = saved(tmp_path, {"a": torch.ones(3)})
    copy = fetch(published.as_uri())
    assert copy == tmp_path / "home" / "hub" / "checkpoints" / published.name
    assert copy.read_bytes() == published.read_bytes()
    published.unlink()
    assert fetch(published.as_uri()) == copy
    wrong = tmp_path / "weights-01234567.pth"
    wrong.write_bytes(b"something else")
    with pytest.raises(ValueError, match="weights-01234567.pth is not here and cannot be fetched .*hash"):
        fetch(wrong.as_uri())
    assert not [path for path in copy.parent.iterdir() if "01234567" in path.name and not path.name.startswith(".")]


def test_torch_fidelitys_weights_say_their_digest() -> None:
    """The address that the network of published FIDs is fetched from, and what it is checked by."""
    assert inception._library().URL_INCEPTION_V3.endswith("/weights-inception-2015-12-05-6726825d.pth")
