"""What the encoder and the projection of a recipe, or of a run, make of somebody's own pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn

from ..backends.checkpointing.weights import load_newest_part
from ..backends.errors import UserError
from ..backends.features import feature_grids, features_picture, named_pictures, read_pictures
from ..backends.files import short_digest
from ..backends.hardware import make_fabric
from ..backends.loader import fixed_batches
from ..backends.pictures import save_picture
from ..backends.run_folder import RunFolder
from ..components.data.picture import decoding_of
from ..components.encoders.encoder import Encoder
from ..components.projections.projection import Projection
from ..components.registry import build
from .assemble import build_encoder, build_source
from .recipe import DataUse, Recipe, load, of_run
from .schema import RecipeSettings

FIT_BATCH = 64

FittedOn = Literal["pictures", "data"]


@dataclass(frozen=True)
class Drawn:
    """A picture that was drawn, and where the projection's statistics come from."""

    path: Path
    statistics: str


def draw_features(
    what: str,
    pictures: Sequence[Path],
    overrides: Sequence[str] = (),
    *,
    fitted_on: FittedOn = "pictures",
    out: Path | None = None,
) -> Drawn:
    """Do what `latsem features` does.

    Args:
        what: a recipe, or a run folder, whose projection is taken as it was trained.
        pictures: files, and folders whose first pictures are taken.
        fitted_on: where a recipe's projection takes its statistics from, the pictures themselves or the data.
        out: file to write, instead of one named by the parts.

    Raises:
        UserError: no encoder, a picture that cannot be read, or weights or data that are not there.
    """
    run = RunFolder(Path(what)) if RunFolder(Path(what)).resolved.is_file() else None
    recipe = _recipe(what, run, overrides, "here" if fitted_on == "data" else "unused")
    settings = recipe.settings
    if settings.encoder is None or settings.projection is None:
        raise UserError(f"{what}: there is no encoder and projection in it; add encoder=NAME projection=pca")
    if not pictures:
        raise UserError("features: name at least one picture file, or a folder of them")
    pictures = named_pictures(pictures)
    images = read_pictures(pictures, settings.data.side, decoding_of(settings.data))
    device = make_fabric(settings.fabric).device
    encoder = _on(device, build_encoder(settings))
    projection: Projection = build(settings.projection, features=settings.encoder.width())
    if run is not None:
        statistics = f"the run, step {load_newest_part(run, projection, 'projection'):,}"
    else:
        batches, statistics = _fitting_images(settings, images, fitted_on)
        projection.fit(grid for batch in batches for grid in feature_grids(encoder, batch, device))
    picture = features_picture(images, feature_grids(encoder, images, device), projection.to(device))
    digest = short_digest([recipe.resolved(), [str(path) for path in pictures], statistics])
    path = out or Path(f"features-{settings.encoder.name}-{settings.projection.name}-{digest}.png")
    save_picture(picture, path)
    return Drawn(path, statistics)


def _on(device: torch.device, encoder: Encoder | None) -> Encoder:
    assert isinstance(encoder, nn.Module)
    return cast(Encoder, encoder.to(device))


def _recipe(what: str, run: RunFolder | None, overrides: Sequence[str], data: DataUse) -> Recipe:
    if run is None:
        return load(what, overrides, data=data)
    return of_run(run, overrides)


def _fitting_images(settings: RecipeSettings, pictures: Tensor, fitted_on: FittedOn) -> tuple[Iterator[Tensor], str]:
    """Return images `(b, 3, H, W)` uint8 to fit a projection on, and what to call them."""
    if fitted_on == "pictures" or settings.projection is None:
        return iter((pictures,)), f"these {len(pictures):,} pictures" if len(pictures) > 1 else "this picture"
    source = build_source(settings.data)
    count = min(settings.projection.fit_images, len(source))
    return (images for images, _ in fixed_batches(source, range(count), FIT_BATCH)), f"{count:,} images of the data"
