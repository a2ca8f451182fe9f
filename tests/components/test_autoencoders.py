"""Autoencoders of diffusers: each class does what the library's pipelines do, and what does not fit is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from latsem.backends.randomness import normal_of
from latsem.components.registry import create
from latsem.components.tokenizers.settings import CONFIG, SHIPPED, WEIGHTS, VAESettings
from latsem.components.torchvision_import import ensure_torchvision

SHAPES = SHIPPED / "shapes_vae"
TWO = {"block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 4}
DOWN, UP = {"down_block_types": ("DownEncoderBlock2D",) * 2}, {"up_block_types": ("UpDecoderBlock2D",) * 2}
ASYMMETRIC = {"down_block_out_channels": (8, 8), "up_block_out_channels": (16, 16), "norm_num_groups": 4}
TWO_SIDED = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
DC_BLOCKS = {"encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1)}
DC_SCALES = {"encoder_qkv_multiscales": ((), ()), "decoder_qkv_multiscales": ((), ())}
SMALL: dict[str, dict[str, Any]] = {
    "AutoencoderKL": TWO | DOWN | UP | {"shift_factor": 0.3, "scaling_factor": 0.7},
    "AsymmetricAutoencoderKL": ASYMMETRIC | DOWN | UP,
    "AutoencoderKLFlux2": TWO | DOWN | UP | {"latent_channels": 4},
    "AutoencoderKLTemporalDecoder": DOWN | {"block_out_channels": (32, 32)},
    "AutoencoderTiny": TWO_SIDED | {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)},
    "AutoencoderDC": TWO_SIDED | DC_BLOCKS | DC_SCALES | {"latent_channels": 4, "scaling_factor": 0.41407},
    "VQModel": TWO | DOWN | UP | {"vq_embed_dim": 5, "num_vq_embeddings": 16},
}
GAUSSIAN = ("AutoencoderKL", "AsymmetricAutoencoderKL", "AutoencoderKLFlux2", "AutoencoderKLTemporalDecoder")


def images(side: int = 16) -> Tensor:
    return torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(5)) * 2 - 1


def no_noise(shape: torch.Size) -> Tensor:
    return torch.zeros(shape)


def saved(name: str, folder: Path, **changes: Any) -> Any:
    """Save a small random autoencoder as the library does, and return it."""
    ensure_torchvision()
    import diffusers

    torch.manual_seed(1)
    network = getattr(diffusers, name)(**SMALL[name] | changes).eval()
    if name == "AutoencoderKLFlux2":
        network.bn.running_mean.normal_()
        network.bn.running_var.uniform_(0.5, 2)
    network.save_pretrained(folder)
    return network


@pytest.mark.parametrize("name", list(SMALL))
def test_a_class_encodes_and_decodes_as_the_library_does(name: str, tmp_path: Path) -> None:
    network = saved(name, tmp_path / "vae")
    settings = VAESettings(model=str(tmp_path / "vae"))
    tokenizer = create("tokenizer", "vae", model=str(tmp_path / "vae"), sample=False)
    with torch.no_grad():
        found = network.encode(images())
        latent = found.latent_dist.mean if name in GAUSSIAN else found[0]
        options = {"num_frames": 1} if name == "AutoencoderKLTemporalDecoder" else {}
        decoded = network.decode(latent, **options).sample
    stream = tokenizer.draw(tokenizer.encode(images()), no_noise)
    assert stream.shape == (3, settings.channels(), settings.grid(16), settings.grid(16))
    assert torch.allclose(stream, normalized(network, latent), atol=1e-5)
    assert torch.allclose(tokenizer.decode(stream), decoded, atol=1e-4) and decoded.shape == images().shape


def normalized(network: Any, latent: Tensor) -> Tensor:
    """Return what the library's pipelines give their network."""
    if not hasattr(network, "bn"):
        return (latent - (getattr(network.config, "shift_factor", None) or 0)) * network.config.scaling_factor
    # Flux2Pipeline._patchify_latents, which is there with transformers only.
    count, channels, height, width = latent.shape
    squares = latent.view(count, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
    packed = squares.reshape(count, 4 * channels, height // 2, width // 2)
    mean, variance = (values.view(1, -1, 1, 1) for values in (network.bn.running_mean, network.bn.running_var))
    return (packed - mean) / torch.sqrt(variance + network.config.batch_norm_eps)


@pytest.mark.parametrize("name", list(SMALL))
def test_what_is_measured_has_unit_scale_whatever_the_class(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path / "vae")
    tokenizer = create("tokenizer", "vae", model=str(tmp_path / "vae"), normalization="measured")
    codes = tokenizer.encode(images())
    tokenizer.fit(codes.split(1))
    generator = torch.Generator().manual_seed(0)
    streams = torch.cat([tokenizer.draw(codes, normal_of(generator)) for _ in range(300)])
    # Without a draw the variance is that of so few codes exactly, but for their number less one.
    assert torch.allclose(streams.std((0, 2, 3)), torch.ones(streams.shape[1]), atol=0.03)
    assert torch.allclose(streams.mean((0, 2, 3)), torch.zeros(streams.shape[1]), atol=0.03)


def test_channels_have_their_own_numbers_where_the_configuration_has_them(tmp_path: Path) -> None:
    numbers = {"latents_mean": [0.5, -0.25, 0.0, 2.0], "latents_std": [0.5, 2.0, 1.0, 4.0], "scaling_factor": 0.5}
    network = saved("AutoencoderKL", tmp_path / "vae", **numbers)
    tokenizer = create("tokenizer", "vae", model=str(tmp_path / "vae"), sample=False)
    code = tokenizer.encode(images())
    stream = tokenizer.draw(code, no_noise)
    mean, std = (torch.tensor(numbers[key])[:, None, None] for key in ("latents_mean", "latents_std"))
    latent = code.chunk(2, 1)[0]
    # StableDiffusionXLPipeline: `latents = latents * latents_std / scaling_factor + latents_mean` before it decodes.
    assert torch.allclose(stream * std / 0.5 + mean, latent, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(tokenizer.decode(stream), network.decode(latent).sample, atol=1e-4)


CONFIGURATIONS: list[tuple[dict[str, Any], str]] = [
    ({"latents_mean": [0.0] * 4}, "latents_mean or latents_std without the other"),
    ({"latents_mean": [0.0] * 3, "latents_std": [1.0] * 3}, "3 numbers in latents_mean for 4 channels"),
    ({"latents_mean": [0.0] * 4, "latents_std": [1.0, 0.0, 1.0, 1.0]}, "a latents_std that is not positive"),
    ({"latents_mean": 0.5, "latents_std": 1.0}, "no numbers in latents_mean"),
    ({"scaling_factor": "0.18"}, "a scaling_factor that is no number"),
    ({"scaling_factor": 0.0}, "a scaling_factor of 0.0"),
    ({"shift_factor": float("nan")}, "a shift_factor that is no number"),
    ({"in_channels": 4}, "takes 4 channels and gives 3"),
    ({"_class_name": "AutoencoderKLWan"}, "of the class 'AutoencoderKLWan'"),
    ({"_class_name": ["AutoencoderKL"]}, "of the class"),
    ({"_class_name": "AsymmetricAutoencoderKL"}, "has no down_block_out_channels"),
    ({"latent_channels": None}, "has no latent_channels"),
    ({"block_out_channels": []}, "has no block_out_channels"),
    ({"norm_num_groups": 3}, "makes no AutoencoderKL"),
]


@pytest.mark.parametrize(("change", "message"), CONFIGURATIONS, ids=[message for _, message in CONFIGURATIONS])
def test_a_configuration_that_is_not_read_is_one_line(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHAPES, tmp_path / "vae"))
    (folder / CONFIG).write_text(json.dumps(json.loads((folder / CONFIG).read_text()) | change))
    problems = [text for _, text in VAESettings(model=str(folder)).problems()]
    with pytest.raises(ValueError, match=".") as error:
        create("tokenizer", "vae", model=str(folder))
    assert message in str(error.value) and "\n" not in str(error.value)
    # What the configuration alone says is known before anything is built.
    assert problems == [str(error.value)] or message == "makes no AutoencoderKL"


def test_a_decoder_of_another_size_and_a_class_without_tiles_are_said(tmp_path: Path) -> None:
    saved(
        "AsymmetricAutoencoderKL",
        tmp_path / "larger",
        up_block_out_channels=(16,),
        up_block_types=UP["up_block_types"][:1],
    )
    (problem,) = VAESettings(model=str(tmp_path / "larger")).problems()
    assert problem[0] == "model" and "decodes to another size" in problem[1]
    saved("AutoencoderTiny", tmp_path / "tiny")
    (problem,) = VAESettings(model=str(tmp_path / "tiny"), tiled=True).problems()
    assert problem == ("tiled", "diffusers' AutoencoderTiny does not decode in tiles")
    assert list(VAESettings(model=str(SHAPES), tiled=True).problems()) == []


def variant(folder: Path, tensors: dict[str, Tensor], name: str = WEIGHTS) -> str:
    """Write the shipped autoencoder with other tensors."""
    folder.mkdir(parents=True)
    shutil.copy(SHAPES / CONFIG, folder)
    save_file(tensors, folder / name)
    return str(folder)


def shipped() -> dict[str, Tensor]:
    return load_file(SHAPES / WEIGHTS)


WHOLE: dict[str, Callable[[], dict[str, Tensor]]] = {
    "vae.": lambda: {f"vae.{name}": tensor for name, tensor in shipped().items()},
    "model.first_stage_model.": lambda: (
        {f"model.first_stage_model.{name}": tensor for name, tensor in shipped().items()}
        | {"model.diffusion_model.out.0.weight": torch.ones(3)}
    ),
    "module._orig_mod.": lambda: {f"module._orig_mod.{name}": tensor for name, tensor in shipped().items()},
    "compiled halves": lambda: {
        name.replace("encoder.", "encoder._orig_mod.", 1): tensor for name, tensor in shipped().items()
    },
    "loss": lambda: shipped() | {"loss.logvar": torch.zeros(1)},
    "half": lambda: {name: tensor.half() for name, tensor in shipped().items()},
}


@pytest.mark.parametrize("form", list(WHOLE))
def test_weights_are_found_below_whatever_wrapped_them(form: str, tmp_path: Path) -> None:
    tokenizer = create("tokenizer", "vae", model=variant(tmp_path / "vae", WHOLE[form]()))
    own = create("tokenizer", "vae")
    tolerance = 1e-3 if form == "half" else 0.0
    for name, tensor in own.vae.state_dict().items():
        assert torch.allclose(tokenizer.vae.state_dict()[name], tensor, atol=tolerance, rtol=tolerance), name


def test_other_names_of_the_file_and_a_pipeline_s_folder_are_found(tmp_path: Path) -> None:
    expected = create("tokenizer", "vae").encode(images(32))
    half = variant(tmp_path / "other", shipped(), "diffusion_pytorch_model.fp16.safetensors")
    variant(tmp_path / "pipeline" / "vae", shipped())
    for model in (half, str(tmp_path / "pipeline")):
        assert torch.equal(create("tokenizer", "vae", model=model).encode(images(32)), expected)
    save_file({"a": torch.zeros(1)}, tmp_path / "other" / "second.safetensors")
    with pytest.raises(ValueError, match="several others .diffusion_pytorch_model.fp16.safetensors, second"):
        create("tokenizer", "vae", model=half)


def test_attention_of_2022_is_renamed(tmp_path: Path) -> None:
    network = saved("AutoencoderKL", tmp_path / "vae")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(tmp_path / "vae" / WEIGHTS)
    for new, former in old.items():
        tensors = {name.replace(f".{new}.", f".{former}."): tensor for name, tensor in tensors.items()}
    assert sum("proj_attn" in name for name in tensors) == 4
    save_file(tensors, tmp_path / "vae" / WEIGHTS)
    read = create("tokenizer", "vae", model=str(tmp_path / "vae")).vae.state_dict()
    assert all(torch.equal(read[name], tensor) for name, tensor in network.state_dict().items())


def without(*starts: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in shipped().items() if not name.startswith(starts)}


BROKEN: list[tuple[Callable[[], dict[str, Tensor]], str]] = [
    (lambda: without("decoder.", "post_quant_conv"), "misses 'decoder.conv_in.weight', "),
    (lambda: without("quant_conv", "post_quant_conv"), "'post_quant_conv.weight' ... (4)"),
    (lambda: without("decoder.conv_in.weight"), "it misses 'decoder.conv_in.weight'"),
    (lambda: shipped() | {"decoder.more.weight": torch.ones(1)}, "holds the unknown 'decoder.more.weight'"),
    (lambda: shipped() | {"quant_conv.bias": torch.ones(4)}, "another shape of 'quant_conv.bias' (4 for 8)"),
    (lambda: shipped() | {"quant_conv.bias": torch.ones(8).int()}, "another type of 'quant_conv.bias'"),
    (lambda: shipped() | {"quant_conv.bias": torch.full((8,), torch.nan)}, "not finite in 'quant_conv.bias'"),
    (lambda: {"encoder.down.0.block.0.norm1.weight": torch.ones(3)}, "latent-diffusion's layout"),
    (
        lambda: {f"{side}.{name}": tensor for side in ("vae", "ema") for name, tensor in shipped().items()},
        "holds the network 2 times, below 'ema.', 'vae.'",
    ),
]


@pytest.mark.parametrize(("tensors", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_weights_that_do_not_fit_are_one_line(
    tensors: Callable[[], dict[str, Tensor]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="tokenizer.model: ") as error:
        create("tokenizer", "vae", model=variant(tmp_path / "vae", tensors()))
    assert message in str(error.value) and "\n" not in str(error.value)
