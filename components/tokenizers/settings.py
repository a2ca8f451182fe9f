"""Settings of the tokenizers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

from pydantic import Field

from ..hub import fetch
from ..messages import first_line
from ..registry import register
from ..settings import Settings, near_name
from ..user_cache import expanded
from .autoencoders import LatentShape, class_of, shape_of

Space = Literal["pixel", "latent"]

CONFIG, INSIDE = "config.json", "vae"
"""The file that describes a model, and the folder of the autoencoder in a pipeline's."""

WEIGHTS = "diffusion_pytorch_model.safetensors"
REMEDY = f"connect to the hub, or copy the model's folder here ({CONFIG} and {WEIGHTS}) and give its path"
SHIPPED = Path(str(files(__package__))) / "weights"


class TokenizerSettings(Settings):
    """Base of every tokenizer's settings: the shape of the image stream is known before anything is built.

    Attributes:
        space: the space that its stream lies in, which names the back end it belongs to.
    """

    space: ClassVar[Space] = "pixel"

    @property
    def measured_on(self) -> int:
        """Number of images of the data from which something is measured first."""
        return 0

    def channels(self) -> int:
        """Return the channels of the image stream."""
        raise NotImplementedError

    def factor(self) -> int:
        """Return how many pixels, along one side, make one element of the stream."""
        return 1

    def grid(self, image_size: int) -> int:
        """Return the side of the image stream for square images of `image_size` pixels."""
        return image_size // self.factor()

    def identity(self) -> dict[str, Any]:
        """Return everything that decides its codes, besides the weights themselves, as JSON."""
        return {"name": self.name}

    def untrained(self) -> TokenizerSettings:
        """Return settings of the same architecture whose weights are not fetched; itself where nothing is."""
        return self

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield `(key, message)` for everything outside the recipe that is not as it should be."""
        return iter(())


@register("tokenizer", "pixel", builds=".pixel:PixelTokenizer")
class PixelSettings(TokenizerSettings):
    """The image stream is the image itself: three channels in [-1, 1]."""

    def channels(self) -> int:
        """Red, green, blue."""
        return 3


STABLE_DIFFUSION: Mapping[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "act_fn": "silu",
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 256,
    "scaling_factor": 0.18215,
}
KNOWN: Mapping[str, Mapping[str, Any]] = {f"stabilityai/sd-vae-ft-{kind}": STABLE_DIFFUSION for kind in ("ema", "mse")}
"""Published configurations of the papers' autoencoders: checking a recipe needs no download of them."""


@register("tokenizer", "vae", builds=".vae:VAETokenizer")
class VAESettings(TokenizerSettings):
    """Latents of an autoencoder of diffusers (arXiv 2112.10752), drawn from its posterior and brought to unit scale."""

    space: ClassVar[Space] = "latent"

    model: str = Field(
        "shapes_vae",
        description="a shipped name, a folder in diffusers' format, or a name on the hub (OWNER/NAME, OWNER/NAME/vae)",
    )
    normalization: Literal["config", "measured"] = Field(
        "config", description="shift and scale of the latents: the model's own numbers, or measured a channel"
    )
    measure_images: int = Field(1024, ge=16, description="images from which shift and scale are measured")
    pretrained: bool = Field(True, description="the model's weights; off: random weights of the same architecture")
    tiled: bool = Field(
        False, description="decode images larger than the model was made for in overlapping tiles: less memory"
    )
    sample: bool = Field(True, description="draw from the posterior, if there is one; off: take its mean")

    @cached_property
    def folder(self) -> Path | None:
        """The folder of a shipped or local model, which may be part of a pipeline; None for one on the hub."""
        path = expanded(self.model)
        for folder in (SHIPPED / self.model, path, path / INSIDE):
            if (folder / CONFIG).is_file():
                return folder
        return None

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The model's configuration.

        Raises:
            ValueError: there is no such model, or its configuration is none.
        """
        if self.model in KNOWN:
            return KNOWN[self.model]
        path = self.folder / CONFIG if self.folder else fetch_file(self.model, CONFIG)
        try:
            config: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} cannot be read ({first_line(error)})") from None
        try:
            _ = shape_of(config if isinstance(config, dict) else {})
        except ValueError as error:
            raise ValueError(f"{path} describes no autoencoder that is read here: it {error}") from None
        return cast(Mapping[str, Any], config)

    @property
    def shape(self) -> LatentShape:
        """What the model's configuration says of its latents.

        Raises:
            ValueError: there is no such model, or its configuration is none.
        """
        return shape_of(self.config)

    def anchored(self) -> Self:
        """Return the same with the absolute path of a model that lies in a folder of its own."""
        own = self.folder is not None and self.folder.parent != SHIPPED
        return self.model_copy(update={"model": str(expanded(self.model).absolute())}) if own else self

    def identity(self) -> dict[str, Any]:
        """Return what the network computes beside its weights; shift, scale and sampling come after the codes."""
        defaults = {"_class_name": "AutoencoderKL", "act_fn": "silu", "norm_num_groups": 32}
        return {**super().identity(), **{key: self.config.get(key, value) for key, value in defaults.items()}}

    def untrained(self) -> TokenizerSettings:
        """Return the same network with random weights."""
        return self.model_copy(update={"pretrained": False})

    @property
    def measured_on(self) -> int:
        """Images from which shift and scale are measured, if they are."""
        return self.measure_images if self.normalization == "measured" else 0

    def channels(self) -> int:
        """Latent channels."""
        return self.shape.channels

    def factor(self) -> int:
        """Pixels a latent along one side."""
        return self.shape.factor

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield why the model's shape is not known, if it is not, or that it cannot do what is asked of it."""
        try:
            _ = self.shape
        except ValueError as error:
            yield "model", str(error)
            return
        if self.tiled and not class_of(self.config).tiles:
            yield "tiled", f"diffusers' {self.config['_class_name']} does not decode in tiles"


def fetch_file(model: str, file: str) -> Path:
    """Return a file of a model on the hub, `owner/name` or a folder in it, `owner/name/folder`.

    Raises:
        ValueError: there is no such model, or it is not here and cannot be fetched; one line.
    """
    if expanded(model).is_dir():
        raise ValueError(f"the folder {model} has no {file}: it must be in diffusers' format")
    if model.startswith(("/", ".", "~")):
        raise ValueError(f"there is no folder {model}")
    owner, _, rest = model.partition("/")
    name, _, folder = rest.partition("/")
    if not name:
        shipped = [path.name for path in SHIPPED.iterdir() if path.is_dir()]
        raise ValueError(
            f"there is no autoencoder '{model}'{near_name(model, shipped)} (shipped: {', '.join(shipped)}; or a "
            "folder, or a name on the hub such as stabilityai/sd-vae-ft-ema)"
        )
    try:
        return fetch(f"{owner}/{name}", f"{folder.strip('/')}/{file}".lstrip("/"))
    except ValueError as error:
        raise ValueError(f"{error}; {REMEDY}") from None
