"""Published checkpoints: the imported network says what the published one says, and no file runs anything."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from latsem.backends.checkpointing.store import verify
from latsem.backends.errors import UserError
from latsem.backends.importing.pca import read_pca
from latsem.backends.importing.published import Published
from latsem.backends.run_folder import RunFolder
from latsem.backends.sampling import TrainedRun
from latsem.components.projections.pca import PCAProjection
from latsem.components.torchvision_import import ensure_torchvision
from latsem.recipes.assemble import open_run
from latsem.recipes.importing import Imported, import_checkpoint
from latsem.recipes.recipe import from_values

Cli = Callable[..., subprocess.CompletedProcess[str]]

WIDTH, DEPTH, HEADS, PATCH, GRID, CLASSES, FEATURES = 64, 2, 4, 2, 4, 5, 768
SIDE = PATCH * GRID


def sinusoids(positions: np.ndarray, width: int) -> np.ndarray:
    angle = positions[:, None] / 10_000 ** (np.arange(width // 2) / (width / 2))
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


class Branch(nn.Module):
    """A module of submodules under published names."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class ReferenceNetwork(nn.Module):
    """SiT and DiT in their published layout, written after the papers: the yardstick of this file."""

    def __init__(
        self,
        channels: int = 4,
        sigma: bool = False,
        rows: int = CLASSES + 1,
        width: int = WIDTH,
        depth: int = DEPTH,
    ) -> None:
        super().__init__()
        self.outputs = channels * (2 if sigma else 1)
        self.x_embedder = Branch(proj=nn.Conv2d(channels, width, PATCH, PATCH))
        self.t_embedder = Branch(mlp=nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width)))
        self.y_embedder = Branch(embedding_table=nn.Embedding(rows, width))
        rows_first, columns_first = np.meshgrid(np.arange(GRID), np.arange(GRID), indexing="ij")
        halves = [sinusoids(axis.ravel(), width // 2) for axis in (columns_first, rows_first)]
        self.pos_embed = nn.Parameter(torch.from_numpy(np.concatenate(halves, 1)).float()[None], requires_grad=False)
        self.blocks = nn.ModuleList(
            Branch(
                attn=Branch(qkv=nn.Linear(width, 3 * width), proj=nn.Linear(width, width)),
                mlp=Branch(fc1=nn.Linear(width, 4 * width), fc2=nn.Linear(4 * width, width)),
                adaLN_modulation=nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width)),
            )
            for _ in range(depth)
        )
        self.final_layer = Branch(
            linear=nn.Linear(width, PATCH**2 * self.outputs),
            adaLN_modulation=nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width)),
        )
        generator = torch.Generator().manual_seed(channels + 100 * sigma + rows)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter is not self.pos_embed:
                    parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))

    def forward(self, noisy: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        """Return all channels of the output, variances last."""
        tokens = self.x_embedder.proj(noisy).flatten(2).mT + self.pos_embed
        angle = time[:, None] * torch.exp(-np.log(10_000) * torch.arange(128) / 128)
        condition = self.t_embedder.mlp(torch.cat([angle.cos(), angle.sin()], 1))
        condition = condition + self.y_embedder.embedding_table(labels)
        for block in self.blocks:
            parts = block.adaLN_modulation(condition)[:, None].chunk(6, dim=2)
            tokens = tokens + parts[2] * self.attend(block.attn, self.normed(tokens, *parts[0:2]))
            hidden = F.gelu(block.mlp.fc1(self.normed(tokens, *parts[3:5])), approximate="tanh")
            tokens = tokens + parts[5] * block.mlp.fc2(hidden)
        tokens = self.normed(tokens, *self.final_layer.adaLN_modulation(condition)[:, None].chunk(2, dim=2))
        patches = self.final_layer.linear(tokens).reshape(-1, GRID, GRID, PATCH, PATCH, self.outputs)
        return patches.permute(0, 5, 1, 3, 2, 4).reshape(-1, self.outputs, SIDE, SIDE)

    @staticmethod
    def normed(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6) * (1 + scale) + shift

    @staticmethod
    def attend(layers: nn.Module, tokens: Tensor) -> Tensor:
        query, key, value = layers.qkv(tokens).reshape(*tokens.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        scores = query @ key.mT / query.shape[-1] ** 0.5
        return layers.proj((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny random autoencoder with the published shape: 4 channels, 8 pixels a latent."""
    ensure_torchvision()
    from diffusers import AutoencoderKL

    folder, levels = tmp_path_factory.mktemp("vae"), 4
    torch.manual_seed(0)
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        mid_block_add_attention=False,
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def bring(vae: Path, tmp_path: Path) -> Callable[..., Imported]:
    """Save something as a checkpoint and import it below `tmp_path / "runs"`."""

    def run(content: Any, published: str, *overrides: str, heads: int | None = HEADS, **options: Any) -> Imported:
        torch.save(content, tmp_path / "published.pt")
        changes = [f"tokenizer.model={vae}", *([f"denoiser.heads={heads}"] if heads else []), *overrides]
        return import_checkpoint(
            tmp_path / "published.pt", Published(published), changes, root=tmp_path / "runs", **options
        )

    return run


def refuse(bring: Callable[..., Imported], content: Any, *arguments: str, **options: Any) -> str:
    """Return the one line with which something is refused, nothing having been written."""
    with pytest.raises(UserError) as error:
        bring(content, *arguments, **options)
    assert len(error.value.problems) == 1 and "\n" not in str(error.value)
    return str(error.value)


def opened(imported: Imported, *overrides: str) -> TrainedRun:
    run = open_run(imported.folder, ["fabric.precision=32-true", "fabric.accelerator=cpu", *overrides])
    run.load_newest()
    return run


def outputs(run: TrainedRun, noisy: Tensor, times: Tensor, labels: Tensor) -> list[Tensor]:
    """Return a stream's output after another."""
    split = dict(zip(run.parts.streams, noisy.split([4, noisy.shape[1] - 4], dim=1), strict=False))
    with torch.no_grad():
        said = run.parts.model.eval().denoiser(split, dict.fromkeys(split, times), labels)
    return list(said.values())


KINDS = [
    ("sit", 4, False),
    ("sit", 4, True),
    ("dit", 4, True),
    ("dit", 4, False),
    ("redi", 12, False),
    ("redi", 12, True),
    ("redi-ddpm", 12, True),
    ("redi-ddpm", 12, False),
]


@pytest.mark.parametrize(("published", "channels", "sigma"), KINDS)
def test_the_imported_network_is_the_published_one(
    bring: Callable[..., Imported], published: str, channels: int, sigma: bool
) -> None:
    network = ReferenceNetwork(channels, sigma)
    run = opened(bring(network.state_dict(), published))
    discrete = published in ("dit", "redi-ddpm")
    times = torch.tensor([0.0, 17.0, 500.0, 999.0]) if discrete else torch.tensor([0.0, 0.2, 0.71, 1.0])
    noisy = torch.randn(4, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 3, CLASSES - 1, CLASSES])
    with torch.no_grad():
        wanted = network(noisy, times, labels)
    assert float(wanted.std()) > 0.1, "a silent network is no yardstick"
    means, variances = wanted[:, :channels], wanted[:, channels:]
    for index, said in enumerate(outputs(run, noisy, times, labels)):
        own = slice(4, None) if index else slice(0, 4)
        parts = [means[:, own], variances[:, own]] if sigma and discrete else [means[:, own]]
        assert said.shape == torch.cat(parts, 1).shape
        assert float((said - torch.cat(parts, 1)).abs().max()) < 1e-5
    recipe = run.parts.recipe
    assert recipe["process"]["name"] == ("ddpm" if discrete else "flow")
    assert recipe["process"].get("learned_variance", False) == (sigma and discrete)
    assert recipe["data"]["image_size"] == 8 * SIDE and run.parts.num_classes == CLASSES


@pytest.mark.parametrize(("published", "sigma"), [("sit", False), ("dit", True)])
def test_dit_and_sit_are_guided_as_released(bring: Callable[..., Imported], published: str, sigma: bool) -> None:
    """Their `forward_with_cfg`: three of the four channels are guided, all else is the prediction with the label."""
    network = ReferenceNetwork(4, sigma)
    run = opened(bring(network.state_dict(), published), "guidance.scale=1.5")
    step = 499
    noisy = torch.randn(3, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    labels, null = torch.tensor([0, 3, CLASSES - 1]), torch.full((3,), CLASSES)
    time = 1 - (step + 1) / 1000
    asked = torch.full((3,), float(step) if published == "dit" else time)
    with torch.no_grad():
        wanted, without = (network(noisy, asked, shown) for shown in (labels, null))
    wanted[:, :3] = without[:, :3] + 1.5 * (wanted[:, :3] - without[:, :3])
    said = run.parts.guidance(run.parts.model.eval().predict, labels)({"image": noisy}, {"image": time})
    assert float((torch.cat(list(said.values()), 1) - wanted).abs().max()) < 1e-5
    assert float((wanted - without).abs().max()) > 0.1
    assert run.parts.recipe["guidance"]["channels"] == 3
    named = opened(bring(network.state_dict(), published, name="named"), "guidance=cfg", "guidance.scale=1.5")
    assert named.parts.recipe["guidance"] == run.parts.recipe["guidance"]


def test_without_a_scale_an_imported_network_is_not_guided(bring: Callable[..., Imported]) -> None:
    for published, channels in (("sit", 4), ("dit", 4), ("redi", 12)):
        guidance = opened(bring(ReferenceNetwork(channels).state_dict(), published, name=published)).parts.recipe[
            "guidance"
        ]
        assert guidance["name"] == "none" or guidance["scale"] == 1


def forms(state: dict[str, Tensor]) -> dict[str, Any]:
    """Return one network in every accepted form; `wrong` weights lie where they must not be taken."""
    wrong = {name: tensor + 1 for name, tensor in state.items()}
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    namespace = argparse.Namespace(model="SiT-B/2", num_classes=CLASSES, nested={"a": [1, None, 2.5]})
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4}]}
    return {
        "state dict": dict(state),
        "ordered": OrderedDict(state),
        "wrapped": wrapped,
        "training": {"model": wrong, "ema": state, "opt": optimizer, "args": namespace, "steps": 400_000},
        "wrapped training": {"model": wrapped, "args": namespace},
        "parameters": {name: nn.Parameter(tensor) for name, tensor in state.items()},
    }


@pytest.mark.parametrize("form", list(forms({})))
def test_every_form_of_a_checkpoint_is_read(bring: Callable[..., Imported], form: str) -> None:
    network = ReferenceNetwork()
    imported = bring(forms(network.state_dict())[form], "sit")
    step = 400_000 if form == "training" else 0
    (checkpoint,) = (imported.folder / "checkpoints").iterdir()
    assert checkpoint.name == f"step-{step:08d}"
    verify(checkpoint)
    weights = load_file(checkpoint / "ema.safetensors")
    assert torch.equal(weights["denoiser.blocks.1.mlp.fc1.weight"], network.blocks[1].mlp.fc1.weight)
    assert torch.equal(weights["denoiser.labels.weight"], network.y_embedder.embedding_table.weight)


AVERAGES = ["ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "model_ema1", "params_ema", "net_ema"]


def block_bias(imported: Imported) -> Tensor:
    (checkpoint,) = (imported.folder / "checkpoints").iterdir()
    return load_file(checkpoint / "ema.safetensors")["denoiser.blocks.1.mlp.fc1.bias"]


def averaged_forms() -> dict[str, tuple[Any, str]]:
    """Return checkpoints whose average is 1 larger than what was trained, and what the average is called."""
    state = ReferenceNetwork().state_dict()
    live = {name: tensor - float(name != "pos_embed") for name, tensor in state.items()}
    below = lambda prefix, tensors: {prefix + name: tensor for name, tensor in tensors.items()}  # noqa: E731
    return {
        **{name: ({"model": live, name: state, "epoch": 3}, name) for name in AVERAGES},
        "lightning": ({"state_dict": below("model.", live) | below("ema.", state)}, "state_dict/ema"),
        "flat": (below("online_model.", live) | below("ema_model.", state) | {"step": torch.zeros(())}, "ema_model"),
        "wrapped": ({"model": below("_orig_mod.", live), "ema": below("module._orig_mod.", state)}, "ema"),
        "deep": ({"state": {"model": live, "model_ema": {"module": state}}}, "state/model_ema/module"),
        "two": ({"model": live, "model_ema2": live, "model_ema1": state}, "model_ema1"),
    }


@pytest.mark.parametrize("form", list(averaged_forms()))
def test_an_average_is_taken_whatever_it_is_called(bring: Callable[..., Imported], form: str) -> None:
    content, name = averaged_forms()[form]
    imported = bring(content, "dit")
    assert torch.equal(block_bias(imported), ReferenceNetwork().blocks[1].mlp.fc1.bias)
    assert imported.lines[0].endswith(f"({name})")
    others = ["other weights in the file: 'model_ema2', 'model' (--weights NAME takes them)"] if form == "two" else []
    assert list(imported.lines[1:]) == others


def test_weights_without_an_average_are_said_and_any_can_be_named(bring: Callable[..., Imported]) -> None:
    state = ReferenceNetwork().state_dict()
    live = {name: tensor - float(name != "pos_embed") for name, tensor in state.items()}
    # An average that is empty, or a list of tensors without names, is none.
    for number, ema in enumerate(({}, None, {"shadow_params": list(state.values())})):
        lines = bring({"ema": ema, "model": state}, "dit", name=f"none-{number}").lines
        assert lines[1:] == ("no moving average is in the file: the weights are those of 'model'",)
    named = bring({"ema": state, "model": live}, "dit", name="named", weights="model")
    assert torch.equal(block_bias(named), ReferenceNetwork().blocks[1].mlp.fc1.bias - 1)
    line = refuse(bring, {"ema": state, "model": live}, "dit", name="absent", weights="modle")
    assert "has no weights 'modle' (it has 'ema', 'model')" in line


def test_a_safetensors_file_is_read(vae: Path, tmp_path: Path) -> None:
    save_file(ReferenceNetwork().state_dict(), tmp_path / "weights.bin")
    changes = [f"tokenizer.model={vae}", f"denoiser.heads={HEADS}"]
    imported = import_checkpoint(tmp_path / "weights.bin", Published.DIT, changes, root=tmp_path / "runs")
    assert torch.equal(block_bias(imported), ReferenceNetwork().blocks[1].mlp.fc1.bias)
    (tmp_path / "weights.bin").write_bytes((tmp_path / "weights.bin").read_bytes()[:-9])
    with pytest.raises(UserError, match="weights.bin: is no whole safetensors file"):
        import_checkpoint(tmp_path / "weights.bin", Published.DIT, changes, root=tmp_path / "runs", name="cut")


@pytest.mark.parametrize("projectors", [False, True])
def test_repa_s_time_and_sign_are_turned(bring: Callable[..., Imported], projectors: bool) -> None:
    network = ReferenceNetwork()
    heads = {"projectors.0.0.weight": torch.ones(3, 3)} if projectors else {}
    imported = bring(network.state_dict() | heads, "repa")
    times = torch.tensor([0.0, 0.2, 0.71, 1.0])
    noisy = torch.randn(4, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 3, CLASSES - 1, CLASSES])
    (said,) = outputs(opened(imported), noisy, times, labels)
    # arXiv 2410.06940's code: x_t = (1 - t) data + t noise, v = noise - data; here both run the other way.
    with torch.no_grad():
        wanted = -network(noisy, 1 - times, labels)
    assert float((said - wanted).abs().max()) < 3e-6 * float(wanted.abs().max())
    assert any("converted: time runs" in line for line in imported.lines)
    recipe = opened(imported).parts.recipe
    # REPA's samplers guide all channels.
    assert recipe["denoiser"]["name"] == "sit" and recipe["guidance"]["channels"] is None


@pytest.mark.parametrize(
    ("content", "published", "message"),
    [
        (lambda: {"projectors.0.0.weight": torch.ones(1)}, "sit", "'projectors.' of REPA's code"),
        (lambda: {"projectors.0.0.weight": torch.ones(1)}, "dit", "import it --as repa"),
        (lambda: {"projector.0.weight": torch.ones(1)}, "repa", "'projector.' of ReDi's code"),
        (lambda: {"args": argparse.Namespace(model="DiT-XL/2")}, "sit", "was trained as 'DiT-XL/2'"),
        (lambda: {"args": {"model": "SiT-B/2"}}, "dit", "import it --as sit"),
        (lambda: {"args": argparse.Namespace(enc_type="dinov2", proj_coeff=0.5)}, "sit", "import it --as repa"),
    ],
)
def test_what_a_file_says_of_itself_counts(
    bring: Callable[..., Imported], content: Callable[[], dict[str, Any]], published: str, message: str
) -> None:
    state = ReferenceNetwork().state_dict()
    said = content()
    whole = {"ema": state, **said} if "args" in said else {**state, **said}
    assert message in refuse(bring, whole, published)


class Echo(ReferenceNetwork):
    """Says what it hears, whole or with the sign that its time gives it: as a trained network does of noise."""

    def __init__(self, *, changes_sign: bool) -> None:
        super().__init__()
        state = {name: torch.zeros_like(tensor) for name, tensor in self.state_dict().items() if name != "pos_embed"}
        values = 4 * PATCH**2
        state["x_embedder.proj.weight"][:values] = 100 * torch.eye(values).reshape(values, 4, PATCH, PATCH)
        # The head gives the channels of a place side by side, the convolution takes the places of a channel.
        order = torch.arange(values).reshape(4, PATCH**2).T.flatten()
        state["final_layer.linear.weight"][torch.arange(values), order] = 1.0
        if changes_sign:
            # The fastest angle has a cosine of 1 at time 0 and of 0.54 at time 1: scale + 1 is -1 there, and 1 here.
            slope = -2 / (1 - np.cos(1))
            state["t_embedder.mlp.0.weight"][0, 0] = 20.0
            state["t_embedder.mlp.2.weight"][0, 0] = slope / 20
            state["t_embedder.mlp.2.bias"][0] = 50 - slope
            state["final_layer.adaLN_modulation.1.weight"][WIDTH : WIDTH + values, 0] = 1.0
            state["final_layer.adaLN_modulation.1.bias"][WIDTH : WIDTH + values] = -52.0
        self.load_state_dict(state, strict=False)


def test_what_a_network_has_learned_of_noise_counts(bring: Callable[..., Imported]) -> None:
    diffusion, flow = Echo(changes_sign=False), Echo(changes_sign=True)
    noise = torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    label = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        said = [flow(noise, torch.tensor([time]), label) for time in (0.0, 1.0)]
    assert [float(F.cosine_similarity(each.flatten(), noise.flatten(), 0)) for each in said] == pytest.approx(
        [-1, 1], abs=0.1
    )
    assert "import it --as dit" in refuse(bring, diffusion.state_dict(), "sit")
    assert "import it --as sit" in refuse(bring, flow.state_dict(), "dit")
    bring(diffusion.state_dict(), "dit", name="dit")
    bring(flow.state_dict(), "sit", name="sit")


def test_a_table_with_as_many_rows_as_data_have_classes_is_not_guessed_about(bring: Callable[..., Imported]) -> None:
    state = ReferenceNetwork(rows=10).state_dict()
    assert "10 rows: 10 classes (add train.class_dropout=0), or 9 and" in refuse(bring, state, "dit")
    assert opened(bring(state, "dit", "train.class_dropout=0", name="all")).parts.num_classes == 10
    assert opened(bring(state, "dit", "train.class_dropout=0.1", name="less")).parts.num_classes == 9
    assert (
        "5 classes and the row for 'no label'" in bring(ReferenceNetwork().state_dict(), "dit", name="usual").lines[0]
    )


def test_old_files_and_half_precision_are_read(bring: Callable[..., Imported], vae: Path, tmp_path: Path) -> None:
    network = ReferenceNetwork()
    half = {name: tensor.half() for name, tensor in network.state_dict().items()}
    run = opened(bring(half, "sit"))
    exact = half["final_layer.adaLN_modulation.1.weight"].float()
    assert torch.equal(run.parts.model.denoiser.heads.modulation[1].weight, exact)
    old = tmp_path / "old.pt"
    torch.save(network.state_dict(), old, _use_new_zipfile_serialization=False)
    changes = [f"tokenizer.model={vae}", f"denoiser.heads={HEADS}"]
    imported = import_checkpoint(old, Published.SIT, changes, root=tmp_path / "runs", name="other.name")
    assert imported.folder == tmp_path / "runs" / "imported" / "other.name"


def test_what_is_left_out_is_said(bring: Callable[..., Imported]) -> None:
    extra = {f"projector.{index}.weight": torch.zeros(3, 3) for index in (0, 2, 4)}
    lines = bring({**ReferenceNetwork(sigma=True).state_dict(), **extra}, "sit").lines
    assert "depth 2, width 64, patch 2, 4 channels, 64x64 images, 5 classes" in lines[0]
    assert [line.split(",")[0] for line in lines[1:]] == [
        "assumed: time 0 is noise",
        "left out: 3 tensors of the projector of REPA's loss",
        "left out: the half of the output that is a variance",
    ]
    assert len(bring(ReferenceNetwork().state_dict(), "dit", name="plain").lines) == 1


def test_a_table_without_the_row_for_no_label_is_told_by_the_recipe(bring: Callable[..., Imported]) -> None:
    network = ReferenceNetwork(rows=CLASSES)
    run = opened(bring(network.state_dict(), "sit", "train.class_dropout=0"))
    assert run.parts.num_classes == CLASSES
    table = run.parts.model.denoiser.labels.weight
    assert torch.equal(table[:CLASSES], network.y_embedder.embedding_table.weight) and not bool(table[CLASSES].any())


def test_the_folder_describes_itself(bring: Callable[..., Imported], tmp_path: Path) -> None:
    imported = bring(ReferenceNetwork(12).state_dict(), "redi", "train.semantic_dropout=0.2", "guidance=representation")
    folder = RunFolder(imported.folder)
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "checkpoints",
        "environment.json",
        "recipe.yaml",
        "resolved.json",
    ]
    recipe = folder.recipe()
    assert recipe["encoder"]["name"] == "dinov2_base_reg" and recipe["streams"]["semantic"]["grid"] == "image"
    assert recipe["projection"]["channels"] == 8 and recipe["guidance"]["name"] == "representation"
    assert recipe["sampler"]["name"] == "sde" and recipe["process"]["time"]["distribution"] == "uniform"
    train = {key: recipe["train"][key] for key in ("batch_size", "lr", "ema", "class_dropout", "semantic_dropout")}
    assert train == {"batch_size": 256, "lr": 1e-4, "ema": 0.9999, "class_dropout": 0.1, "semantic_dropout": 0.2}
    assert folder.num_classes() == CLASSES
    assert json.loads(folder.resolved.read_text())["imported"]["as"] == "redi"
    assert json.loads((folder.path / "environment.json").read_text())["versions"]["torch"]
    from latsem.recipes.layers import read_layers

    text = read_layers(folder.path / "recipe.yaml", ())
    assert from_values("again", text.values, data="unused").resolved() == recipe
    # Without the components the network draws, and knows that it cannot take images in.
    assert not bool(opened(imported).parts.model.projection.fitted)


def test_published_sizes_are_known_by_name(bring: Callable[..., Imported]) -> None:
    for depth, known in ((12, ("S", None, None, None)), (2, ("tiny", 2, 384, 6))):
        state = ReferenceNetwork(width=384, depth=depth).state_dict()
        recipe = opened(bring(state, "dit", heads=None, name=f"depth-{depth}")).parts.recipe
        assert tuple(recipe["denoiser"][key] for key in ("size", "depth", "width", "heads")) == known


class Hostile:
    """Pickled, it is a call of `os.system`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def sit_without(*names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in ReferenceNetwork().state_dict().items() if name not in names}


MISTAKES: list[tuple[Callable[[], Any], list[str], str]] = [
    (lambda: sit_without("blocks.1.attn.qkv.bias"), ["sit"], "misses 'blocks.1.attn.qkv.bias'"),
    (lambda: sit_without("pos_embed"), ["sit"], "has no 'pos_embed'"),
    (lambda: {**sit_without(), "blocks.0.attn.q_norm.weight": torch.ones(1)}, ["sit"], "holds the unknown 'blocks.0"),
    (lambda: {**sit_without(), "projectors.0.0.weight": torch.ones(1)}, ["sit"], "import it --as repa"),
    (lambda: {**sit_without(), "pos_embed": ReferenceNetwork().pos_embed.flip(1)}, ["sit"], "fixed 2-D sin-cos table"),
    (lambda: {**sit_without(), "x_embedder.proj.bias": torch.ones(1)}, ["sit"], "another shape of 'x_embedder.proj"),
    (lambda: {**sit_without(), "x_embedder.proj.bias": torch.ones(64).int()}, ["sit"], "another type of 'x_embedder"),
    (lambda: {f"layers.{i}": torch.ones(1) for i in range(5)}, ["sit"], "no weights in the layout of SiT, DiT or ReDi"),
    (lambda: {"epoch": 3, "note": "x"}, ["sit"], "it holds 'epoch', 'note'"),
    (lambda: torch.ones(3), ["sit"], "holds one Tensor"),
    (lambda: ReferenceNetwork(12).state_dict(), ["dit"], "import it --as redi or redi-ddpm"),
    (sit_without, ["redi"], "import it --as sit or dit"),
    (sit_without, ["sit", "denoiser.heads=null"], "say denoiser.heads=NUMBER"),
    (sit_without, ["sit", "denoiser.depth=3"], "the overrides make another network than the file's"),
    (sit_without, ["sit", "data.image_size=128"], "another number of tokens"),
    (sit_without, ["sit", "denoiser.widht=3"], "did you mean 'width'"),
    (sit_without, ["sit", "tokenizer.model=/nowhere/at/all"], "tokenizer.model"),
]


@pytest.mark.parametrize(("content", "arguments", "message"), MISTAKES, ids=[message for _, _, message in MISTAKES])
def test_what_does_not_fit_is_one_line_and_nothing_is_written(
    bring: Callable[..., Imported],
    tmp_path: Path,
    content: Callable[[], Any],
    arguments: list[str],
    message: str,
) -> None:
    assert message in refuse(bring, content(), *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["published.pt"]


def test_files_that_are_no_checkpoints_are_one_line(tmp_path: Path) -> None:
    text, cut = tmp_path / "text.pt", tmp_path / "cut.pt"
    text.write_text("hello")
    torch.save(sit_without(), cut)
    cut.write_bytes(cut.read_bytes()[:20_000])
    marker, newer, whole = tmp_path / "ran", tmp_path / "newer.pt", tmp_path / "whole.pt"
    newer.write_bytes(pickle.dumps(Hostile(marker), protocol=4))
    torch.save(nn.Linear(2, 2), whole)
    for file, message in (
        (text, "not a checkpoint"),
        (cut, "not a checkpoint"),
        (newer, "not with its own pickle protocol .Unsupported operand"),
        (whole, "holds 'torch.nn.modules.linear.Linear'"),
        (tmp_path / "absent.pt", "no such"),
        (tmp_path, "no such"),
    ):
        with pytest.raises(UserError, match=message) as error:
            import_checkpoint(file, Published.SIT, root=tmp_path / "runs")
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="is not a folder name"):
        import_checkpoint(cut, Published.SIT, root=tmp_path / "runs", name="../elsewhere")
    assert not (tmp_path / "runs").exists() and not marker.exists()


def test_an_import_that_fails_at_the_end_leaves_nothing(
    bring: Callable[..., Imported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latsem.backends.importing import folder

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "save_weights", full_disk)
    with pytest.raises(OSError, match="No space"):
        bring(sit_without(), "sit")
    assert list((tmp_path / "runs" / "imported").iterdir()) == []


def stand_in_pca(monkeypatch: pytest.MonkeyPatch, state: dict[str, Any]) -> Any:
    """Return an object that pickles as a PCA of scikit-learn does, whether that is installed or not."""
    module = types.ModuleType("sklearn.decomposition._pca")
    module.PCA = type("PCA", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    for name in ("sklearn", "sklearn.decomposition"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    model = module.PCA()
    model.__dict__.update(state)
    return model


def components_file(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(FEATURES, FEATURES)))[0]
    state = {
        "n_components": FEATURES,
        "whiten": False,
        "random_state": None,
        "mean_": rng.normal(size=FEATURES).astype("f4") / 10,
        "components_": np.asfortranarray(basis.astype("f4")),
        "explained_variance_": np.linspace(9, 1, FEATURES).astype("f4"),
        "singular_values_": np.linspace(9, 1, FEATURES),
        "noise_variance_": np.float64(0.5),
        "_sklearn_version": "1.6.0",
    }
    model = stand_in_pca(monkeypatch, {**state, **{key: item for key, item in changes.items() if key in state}})
    mean, std = rng.normal(size=FEATURES).astype("f4"), rng.uniform(0.5, 2, FEATURES).astype("f4")
    outer = {"pca_model": model, "mean": mean, "std": std}
    return {**outer, **{key: item for key, item in changes.items() if key in outer}}


def write_pca(path: Path, content: Any, form: str) -> Path:
    if form == "torch":
        torch.save(content, path)
    elif form == "old numpy":
        path.write_bytes(pickle.dumps(content, protocol=2).replace(b"cnumpy._core.", b"cnumpy.core."))
    else:
        path.write_bytes(pickle.dumps(content, protocol=int(form)))
    return path


@pytest.mark.parametrize("form", ["torch", "old numpy", "2", "3", "4", "5"])
def test_the_projection_is_the_published_pca(
    bring: Callable[..., Imported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    content = components_file(monkeypatch)
    file = write_pca(tmp_path / "pca.pth", content, form)
    model, mean, std = content["pca_model"], content["mean"], content["std"]
    projection = opened(bring(ReferenceNetwork(12).state_dict(), "redi", pca=file)).parts.model.projection
    features = np.random.default_rng(1).normal(size=(2, FEATURES, 3, 3)).astype("f4")
    tokens = (features.transpose(0, 2, 3, 1) - mean) / std - model.mean_
    wanted = (tokens @ model.components_[:8].T).transpose(0, 3, 1, 2)
    assert np.abs(projection(torch.from_numpy(features)).numpy() - wanted).max() < 1e-4
    assert float(projection.stream_std) == pytest.approx(float(np.sqrt(model.explained_variance_[:8].mean())))


def test_whitened_components_are_divided_by_their_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from latsem.components.registry import create

    plain, whitened = (
        read_pca(write_pca(tmp_path / "pca.pth", components_file(monkeypatch, whiten=whiten), "4"))
        for whiten in (False, True)
    )
    grid = torch.randn(2, FEATURES, 2, 2)
    streams = []
    for pca in (plain, whitened):
        projection: PCAProjection = create("projection", "pca", channels=4, features=FEATURES)
        pca.fill(projection)
        streams.append(projection(grid))
    spread = torch.from_numpy(plain.variance[:4]).float().sqrt()[:, None, None]
    assert torch.allclose(streams[0] / spread, streams[1], atol=1e-4)
    assert float(projection.stream_std) == pytest.approx(1)


def test_components_that_do_not_fit_are_one_line_and_nothing_is_written(
    bring: Callable[..., Imported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ran"
    narrow = np.eye(8, 100, dtype="f4")
    objects = np.array([{"a": 1}], dtype=object)
    for changes, message in (
        (
            {"components_": np.eye(4, FEATURES), "explained_variance_": np.ones(4)},
            "has 4 components; the network takes",
        ),
        ({"components_": narrow, "explained_variance_": np.ones(8)}, "does not fit its components"),
        ({"std": np.zeros(FEATURES)}, "std that is not positive"),
        ({"mean": [0.0]}, "has no array 'mean'"),
        ({"mean": objects}, "holds an array of 'O8'"),
        ({"mean": np.full(FEATURES, np.nan)}, "not finite"),
        ({"pca_model": 3}, "not ReDi's file of components"),
        ({"pca_model": Hostile(marker)}, "holds 'posix.system'"),
        ({"std": argparse.Namespace()}, "holds 'argparse.Namespace'"),
    ):
        file = write_pca(tmp_path / "pca.pth", components_file(monkeypatch, **changes), "torch")
        line = refuse(bring, ReferenceNetwork(12).state_dict(), "redi", pca=file)
        assert line.startswith(f"--pca: {file}") and message in line, line
    assert "has no semantic stream" in refuse(bring, sit_without(), "sit", pca=file)
    for content in (b"", b"hello", b"\x80\x04", pickle.dumps(Hostile(marker)), b"PK\x05\x06" + bytes(18)):
        file.write_bytes(content)
        refuse(bring, ReferenceNetwork(12).state_dict(), "redi", pca=file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pca.pth", "published.pt"]


def test_a_damaged_array_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of numpy's would be handed a state that does not fit; a stand-in checks it."""

    class Array:
        def __init__(self, state: Any) -> None:
            self.state = state

        def __reduce__(self) -> tuple[Any, ...]:
            return np.empty(0).__reduce__()[0], (np.ndarray, (0,), b"b"), self.state

    numbers, raw = np.dtype("f4"), bytes(4 * FEATURES)
    for state in (
        (1, (FEATURES,), numbers, False, raw[:-1]),
        (1, (2**40, 2**40), numbers, False, raw),
        (1, (-FEATURES,), numbers, False, raw),
        (1, (FEATURES,), "f4", False, raw),
        (1, (FEATURES,), numbers, False, list(raw)),
        (1, "shape", numbers, False, raw),
        None,
    ):
        content = components_file(monkeypatch, mean=Array(state))
        with pytest.raises(UserError, match="holds (a damaged array|an array)"):
            read_pca(write_pca(tmp_path / "pca.pth", content, "4"))


def test_the_command_imports_and_the_folder_draws(cli: Cli, vae: Path, tmp_path: Path) -> None:
    torch.save({"ema": ReferenceNetwork(12).state_dict(), "args": argparse.Namespace()}, tmp_path / "redi-tiny.pt")
    command = ["import", "redi-tiny.pt", "--as", "redi", f"tokenizer.model={vae}", f"denoiser.heads={HEADS}"]
    done = cli(*command, "train.semantic_dropout=0.2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "next  latsem sample runs/imported/redi-tiny -n 16 --seed 1"
    drawn = cli("sample", "runs/imported/redi-tiny", "-n", "2", "sampler.steps=3", "guidance=representation")
    assert drawn.returncode == 0, drawn.stderr
    with Image.open(tmp_path / drawn.stdout.strip()) as picture:
        assert picture.size[0] >= 8 * SIDE
    again = cli(*command)
    assert again.returncode == 2 and len(again.stderr.splitlines()) == 1
    assert again.stderr.startswith("runs/imported/redi-tiny: exists already")


def test_hostile_files_run_nothing(cli: Cli, vae: Path, tmp_path: Path) -> None:
    marker, state = tmp_path / "ran", ReferenceNetwork(12).state_dict()
    torch.save({"ema": state, "args": Hostile(marker)}, tmp_path / "hostile.pt")
    torch.save({"ema": state, "args": argparse.Namespace()}, tmp_path / "good.pt")
    torch.save({"pca_model": Hostile(marker)}, tmp_path / "pca.pth")
    files = {path.name for path in tmp_path.iterdir()}
    for arguments, named in (
        (["hostile.pt", "--as", "redi"], "hostile.pt: holds 'posix.system'"),
        (["good.pt", "--as", "redi", "--pca", "pca.pth", f"tokenizer.model={vae}"], "--pca: pca.pth: holds 'posix"),
    ):
        done = cli("import", *arguments)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert named in done.stderr and "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == files and not marker.exists()
