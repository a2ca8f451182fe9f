"""Published checkpoints to run folders: what their shapes say becomes a recipe, their weights a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from ..backends.assembly import ImageModel
from ..backends.errors import UserError
from ..backends.importing.conventions import behaviour, contradiction
from ..backends.importing.conversion import converted, time_reversed
from ..backends.importing.folder import FAMILY, new_folder, write_folder
from ..backends.importing.layout import ANCHORS, PublishedShape, measure, without_auxiliary
from ..backends.importing.pca import PublishedPCA, read_pca
from ..backends.importing.published import Published
from ..backends.importing.reading import PublishedCheckpoint, read_checkpoint
from ..backends.importing.weight_sets import PLAIN, is_average
from ..components.denoisers.settings import DIT_SIZES
from ..components.denoisers.transformer import StreamTransformer
from ..components.projections.pca import PCAProjection
from ..components.weights import differences
from .assemble import image_model
from .layers import override
from .recipe import RUNS, Recipe, from_values
from .yaml_reader import Sourced

SIZES = {name: size for name, size in DIT_SIZES.items() if name != "tiny"}
HEADS = {size.width: size.heads for size in SIZES.values()}

TRAINING: dict[str, Any] = {
    "steps": 400_000,
    "batch_size": 256,
    "lr": 1e-4,
    "clip": 0.0,
    "ema": 0.9999,
    "class_dropout": 0.1,
    "semantic_dropout": 0.0,
}
"""What SiT, DiT and ReDi train with; the number of steps is that of their comparisons."""


@dataclass(frozen=True)
class Imported:
    """An imported network.

    Attributes:
        folder: its run folder.
        lines: what was found and what was left out, for people.
    """

    folder: Path
    lines: tuple[str, ...]


def import_checkpoint(
    path: Path,
    published: Published,
    overrides: Sequence[str] = (),
    *,
    pca: Path | None = None,
    weights: str | None = None,
    name: str | None = None,
    root: Path = RUNS,
) -> Imported:
    """Turn a published checkpoint into the run folder `root/imported/name` (the file's stem, if there is no name).

    Args:
        path: a file of torch or of safetensors.
        published: the kind of network that it holds.
        overrides: `key=value` changes to the recipe, above all of what shapes do not tell.
        pca: ReDi's file of principal components; without it, the network draws, but takes no images in.
        weights: which of the file's weights, by name; left open, its moving average, or else what was trained.
        name: name of the folder.
        root: folder of all runs.

    Raises:
        UserError: a file that cannot be used, a recipe that does not fit it, or a folder that is there already.
            Nothing is written then.
    """
    folder = new_folder(root, path.stem if name is None else name)
    if pca is not None and not published.joint:
        raise UserError(f"--pca: '{published}' has no semantic stream; --as redi has one")
    components = None if pca is None else read_pca(pca)
    checkpoint = read_checkpoint(path, ANCHORS, weights)
    _require_named_as_it_is(path, checkpoint, published)
    tensors = without_auxiliary(checkpoint.tensors)
    shape = _measured(path, tensors, published)
    values = _values(shape, published, whiten=components is not None and components.whiten)
    _require_null_row_known(path, shape, values, overrides)
    recipe = _recipe(path, shape, values, overrides)
    parts = image_model(recipe, shape.rows - (1 if recipe.settings.train.class_dropout else 0))
    _load(path, parts, time_reversed(tensors) if published is Published.REPA else tensors, shape)
    _require_its_behaviour(path, parts, published)
    if pca is not None and components is not None:
        _fill(pca, parts, components)
    text = _text(path, published, values, overrides)
    origin = {"file": str(path.resolve()), "as": str(published), "weights": checkpoint.source}
    write_folder(folder, parts, text, checkpoint.step, origin)
    return Imported(folder.path, tuple(_lines(checkpoint, shape, parts, published)))


def _measured(path: Path, tensors: dict[str, Tensor], published: Published) -> PublishedShape:
    try:
        shape = measure(tensors)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    if published.joint and shape.semantic_channels == 0:
        raise UserError(f"{path}: takes {shape.channels} channels, the image's alone; import it --as sit or dit")
    if not published.joint and shape.semantic_channels:
        raise UserError(
            f"{path}: takes {shape.channels} channels, more than the image's; import it --as redi or redi-ddpm"
        )
    return shape


def _values(shape: PublishedShape, published: Published, *, whiten: bool) -> dict[str, Any]:
    """Return the recipe: what is published, and what follows from the shapes."""
    values: dict[str, Any] = {
        "backend": "latent",
        "data": {"name": "folder", "root": "data/imagenet/train", "image_size": shape.image_size},
        "tokenizer": {"name": "vae", "model": "stabilityai/sd-vae-ft-ema"},
        "denoiser": _denoiser(shape, published),
        "process": {"name": "flow", "prediction": "v", "time": {"distribution": "uniform"}},
        "guidance": _guidance(published),
        "sampler": {"name": "sde"},
        "train": dict(TRAINING),
        "evaluate": {"samples": 0},
    }
    if published.diffusion:
        values["process"] = {"name": "ddpm", "learned_variance": shape.learned_variance}
        values["sampler"] = {"name": "ddpm", "steps": 250}
    if published.joint:
        # Published components were fitted to images that were resized without antialiasing.
        values["encoder"] = {"name": "dinov2_base_reg", "antialias": False}
        values["projection"] = {"name": "pca", "channels": shape.semantic_channels, "whiten": whiten}
        values["streams"] = {"semantic": {"grid": "image"}}
    return values


def _guidance(published: Published) -> dict[str, Any]:
    """Return the released guidance, off at scale 1: DiT's and SiT's leaves out the fourth channel, REPA's does not."""
    if published.joint:
        return {"name": "none"}
    channels = {"channels": 3} if published in (Published.SIT, Published.DIT) else {}
    return {"name": "cfg", "scale": 1.0, **channels}


def _denoiser(shape: PublishedShape, published: Published) -> dict[str, Any]:
    named = [name for name, size in SIZES.items() if (size.depth, size.width) == (shape.depth, shape.width)]
    own: dict[str, Any] = {"size": named[0]} if named else {"depth": shape.depth, "width": shape.width}
    if not named and shape.width in HEADS:
        own["heads"] = HEADS[shape.width]
    return {"name": "dit" if published.diffusion else "sit", **own, "patch": shape.patch, "fusion": {"name": "merged"}}


def _merged(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    return override(Sourced(values, {(): FAMILY}), overrides).values


def _recipe(path: Path, shape: PublishedShape, values: dict[str, Any], overrides: Sequence[str]) -> Recipe:
    denoiser = _merged(values, overrides)["denoiser"]
    if isinstance(denoiser, dict) and "size" not in denoiser and denoiser.get("heads") is None:
        raise UserError(
            f"{path}: a width of {shape.width} does not tell the number of attention heads; say denoiser.heads=NUMBER"
        )
    return from_values(FAMILY, values, overrides, data="unused")


def _load(path: Path, parts: ImageModel, tensors: dict[str, Tensor], shape: PublishedShape) -> None:
    """Load the weights into the model, if overrides have not made it another one.

    Raises:
        UserError: they have.
    """
    denoiser = parts.model.denoiser
    state = converted(
        tensors,
        shape,
        {name: spec.channels for name, spec in parts.streams.items()},
        num_classes=parts.num_classes,
        learned_variance=any(spec.learned_variance for spec in parts.streams.values()),
    )
    if not isinstance(denoiser, StreamTransformer) or denoiser.positions.shape[0] != shape.token_grid**2:
        raise UserError(f"{path}: the overrides make a network of another kind or another number of tokens")
    problem = differences(state, denoiser.state_dict())
    if problem:
        raise UserError(f"{path}: the overrides make another network than the file's ({problem})")
    denoiser.load_state_dict(state)


def _require_named_as_it_is(path: Path, checkpoint: PublishedCheckpoint, published: Published) -> None:
    """Refuse a file that says itself that it is of another kind."""
    problem = contradiction(checkpoint.tensors, checkpoint.arguments or {}, published)
    if problem:
        raise UserError(f"{path}: {problem}")


def _require_its_behaviour(path: Path, parts: ImageModel, published: Published) -> None:
    """Refuse a network that has clearly learned another kind of process than the recipe says."""
    learned = behaviour(parts.model.denoiser, parts.streams)
    if learned is None or learned == ("diffusion" if published.diffusion else "flow"):
        return
    if learned == "diffusion":
        said = "says of noise at step 999 that it is noise, as a DiT does"
        named = Published.REDI_DDPM if published.joint else Published.DIT
    else:
        said = "says at time 0 the opposite of its input, as a network of straight paths does"
        named = Published.REDI if published.joint else Published.SIT
    raise UserError(f"{path}: {said}; import it --as {named}")


def _require_null_row_known(
    path: Path, shape: PublishedShape, values: dict[str, Any], overrides: Sequence[str]
) -> None:
    """Refuse to guess where a label table has as many rows as data sets have classes.

    Networks that dropped labels in training have a row more than classes, and nothing else tells them from those that
    did not.
    """
    if shape.rows % 10:
        return
    open_values = values | {"train": {key: each for key, each in TRAINING.items() if key != "class_dropout"}}
    train = _merged(open_values, overrides)["train"]
    if isinstance(train, dict) and "class_dropout" not in train:
        raise UserError(
            f"{path}: its label table has {shape.rows:,} rows: {shape.rows:,} classes (add train.class_dropout=0), or "
            f"{shape.rows - 1:,} and the row for 'no label' (add train.class_dropout=0.1)"
        )


def _fill(path: Path, parts: ImageModel, components: PublishedPCA) -> None:
    projection = parts.model.projection
    if not isinstance(projection, PCAProjection):
        raise UserError("--pca: the overrides leave no projection 'pca' to take it")
    try:
        with torch.no_grad():
            components.fill(projection)
    except ValueError as error:
        raise UserError(f"--pca: {path}: {error}") from None


def _text(path: Path, published: Published, values: dict[str, Any], overrides: Sequence[str]) -> str:
    written: str = yaml.safe_dump(_merged(values, overrides), sort_keys=False, allow_unicode=True)
    return f"# Made by `latsem import` of {path.name} as {published}; its weights are in checkpoints/.\n{written}"


def _lines(
    checkpoint: PublishedCheckpoint, shape: PublishedShape, parts: ImageModel, published: Published
) -> Iterator[str]:
    null_row = " and the row for 'no label'" if shape.rows > parts.num_classes else ""
    yield (
        f"{published}: depth {shape.depth}, width {shape.width}, patch {shape.patch}, {shape.channels} channels, "
        f"{shape.image_size}x{shape.image_size} images, {parts.num_classes} classes{null_row} ({checkpoint.source})"
    )
    if not checkpoint.averaged and checkpoint.source != PLAIN:
        yield f"no moving average is in the file: the weights are those of '{checkpoint.source}'"
    if checkpoint.others and (not checkpoint.averaged or any(map(is_average, checkpoint.others))):
        others = ", ".join(repr(name) for name in checkpoint.others)
        yield f"other weights in the file: {others} (--weights NAME takes them)"
    if published is Published.SIT:
        yield "assumed: time 0 is noise, as in SiT's code; checkpoints of REPA's code, where it is data, need --as repa"
    if published is Published.REPA:
        yield "converted: time runs from data to noise in REPA's code, and from noise to data here"
    auxiliary = len(checkpoint.tensors) - len(without_auxiliary(checkpoint.tensors))
    if auxiliary:
        yield f"left out: {auxiliary} tensors of the projector of REPA's loss, which sampling does not use"
    if shape.learned_variance and not any(spec.learned_variance for spec in parts.streams.values()):
        yield "left out: the half of the output that is a variance, which sampling does not use"
