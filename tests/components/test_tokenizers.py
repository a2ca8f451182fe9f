from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from latsem.backends.latent import LatentSpace
from latsem.backends.metering import MemoryMeter
from latsem.backends.randomness import normal_of
from latsem.components.images import mean_psnr, to_pixels, to_unit
from latsem.components.registry import available, create, find
from latsem.components.tokenizers.settings import VAESettings
from latsem.components.tokenizers.tokenizer import Normal, Tokenizer
from latsem.components.torchvision_import import ensure_torchvision


def scenes(count: int = 64, seed: int = 3) -> Tensor:
    source = create("data", "shapes", size=500, seed=seed)
    return torch.stack([source.item(index, 0)[0] for index in range(count)]).float() / 127.5 - 1


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(seed: int = 0) -> Normal:
    return normal_of(generator(seed))


def tiny_vae(folder: Path, **config: object) -> Path:
    """Write a random autoencoder of the real architecture in diffusers' format: f8, 4 channels."""
    ensure_torchvision()
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    levels = {"block_out_channels": (4, 4, 4, 4), "norm_num_groups": 2, "layers_per_block": 1, "latent_channels": 4}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    AutoencoderKL(**levels, **kinds, **config).save_pretrained(folder)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize("name", available("tokenizer"))
def test_tokenizer_contract(name: str) -> None:
    settings = find("tokenizer", name).settings()
    tokenizer: Tokenizer = create("tokenizer", name)
    assert isinstance(tokenizer, Tokenizer) and list(settings.problems()) == []
    images = scenes()
    code = tokenizer.encode(images)
    stream = tokenizer.draw(code, noise())
    assert stream.shape == (64, settings.channels(), settings.grid(32), settings.grid(32))
    assert torch.equal(stream, tokenizer.draw(code, noise())) and not stream.requires_grad
    kept = tokenizer.draw(tokenizer.restore(tokenizer.store(code)), noise())
    assert torch.allclose(kept, stream, atol=0.01)
    assert float((tokenizer.decode(stream) - images).square().mean()) < 0.02


def test_shipped_latents_have_unit_scale() -> None:
    tokenizer = create("tokenizer", "vae")
    stream = tokenizer.draw(tokenizer.encode(scenes(500)), noise())
    assert float(stream.std()) == pytest.approx(1, abs=0.03) and abs(float(stream.mean())) < 0.03


def test_the_posterior_is_drawn_from_its_moments() -> None:
    tokenizer = create("tokenizer", "vae")
    mean, log_variance = torch.full((400, 4, 8, 8), 0.7), torch.full((400, 4, 8, 8), -3.0)
    stream = tokenizer.draw(torch.cat([mean, log_variance], 1), noise())
    config = tokenizer.vae.config
    assert float(stream.mean()) == pytest.approx((0.7 - config.shift_factor) * config.scaling_factor, abs=0.005)
    assert float(stream.std()) == pytest.approx(config.scaling_factor * 2.718281828**-1.5, rel=0.01)
    means = create("tokenizer", "vae", sample=False).draw(torch.cat([mean, log_variance], 1), noise())
    assert float(means.std()) < 1e-6


def test_measured_latents_have_unit_scale_in_every_channel_and_decode_to_the_same() -> None:
    measured, own = create("tokenizer", "vae", normalization="measured"), create("tokenizer", "vae")
    code = own.encode(scenes(200))
    measured.fit(code.split(64))
    stream = measured.draw(code, noise())
    assert torch.allclose(stream.std((0, 2, 3)), torch.ones(4), atol=0.02)
    assert torch.allclose(stream.mean((0, 2, 3)), torch.zeros(4), atol=0.02)
    assert torch.allclose(measured.decode(stream), own.decode(own.draw(code, noise())), atol=1e-4)
    before = measured.normalization.scale.clone()
    measured.fit(scenes(2) for _ in range(1))
    assert torch.equal(measured.normalization.scale, before), "what is fitted stays"


def test_a_folder_in_diffusers_format_equals_diffusers(tmp_path: Path) -> None:
    folder = tiny_vae(tmp_path / "vae", scaling_factor=0.18215)
    settings = VAESettings(model=str(folder))
    assert (settings.channels(), settings.factor()) == (4, 8)
    tokenizer = create("tokenizer", "vae", model=str(folder))
    images = scenes(4)
    from diffusers import AutoencoderKL

    reference = AutoencoderKL.from_pretrained(folder, low_cpu_mem_usage=False).eval()
    with torch.no_grad():
        posterior = reference.encode(images).latent_dist
        latent = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator())
        assert torch.allclose(tokenizer.draw(tokenizer.encode(images), noise()), latent * 0.18215, atol=1e-6)
        decoded = reference.decode(latent).sample
    assert torch.allclose(tokenizer.decode(latent * 0.18215), decoded, atol=1e-5)


def test_models_that_are_not_there_are_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def message(model: str) -> str:
        (problem,) = VAESettings(model=model).problems()
        return problem[1]

    assert "did you mean 'shapes_vae'" in message("shapes_vea")
    assert "has no config.json" in message(str(tmp_path))
    (tmp_path / "config.json").write_text('{"some": 1}')
    assert "describes no autoencoder that is read here" in message(str(tmp_path))
    import huggingface_hub

    def no_network(*arguments: object, **options: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", no_network)
    line = message("someone/some-vae")
    assert "cannot be fetched" in line and "no route to host" in line and "\n" not in line and "give its path" in line
    # The papers' autoencoders are known by name: a recipe can be checked without a download.
    assert VAESettings(model="stabilityai/sd-vae-ft-ema").grid(256) == 32


def test_only_safetensors_are_loaded(tmp_path: Path) -> None:
    folder = tiny_vae(tmp_path / "vae")
    (folder / "diffusion_pytorch_model.safetensors").rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match="diffusion_pytorch_model.safetensors"):
        create("tokenizer", "vae", model=str(folder))


def test_reconstructions_of_shipped_latents_are_good_and_the_ratio_is_its_formula() -> None:
    space = LatentSpace(create("tokenizer", "vae"), None, 32)
    pixels = to_pixels(scenes(100, seed=11))
    assert mean_psnr(space.reconstruct(pixels), to_unit(pixels)) > 28
    grey = torch.zeros(2, 3, 4, 4)
    assert mean_psnr(grey + 0.2, grey) == pytest.approx(20.0)


def test_tiles_take_less_memory_and_change_what_is_decoded_of_large_images_alone(tmp_path: Path) -> None:
    folder = str(tiny_vae(tmp_path / "vae", sample_size=32))
    whole, tiled = (create("tokenizer", "vae", model=folder, tiled=tiled) for tiled in (False, True))
    small, large = torch.randn(1, 4, 4, 4), torch.randn(1, 4, 16, 16)
    assert torch.equal(whole.decode(small), tiled.decode(small))
    seen = [tokenizer.decode(large) for tokenizer in (whole, tiled)]
    assert seen[0].shape == seen[1].shape == (1, 3, 128, 128) and not torch.equal(*seen)
    images = torch.rand(1, 3, 128, 128) * 2 - 1
    assert torch.equal(whole.encode(images), tiled.encode(images))
    peaks = []
    for tokenizer in (whole, tiled):
        with MemoryMeter() as meter:
            tokenizer.decode(large)
        peaks.append(meter.peak)
    assert peaks[1] < 0.6 * peaks[0]
