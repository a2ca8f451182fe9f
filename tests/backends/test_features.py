from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK_JOINT
from PIL import Image

from latsem.backends.errors import UserError
from latsem.backends.features import features_picture, read_pictures
from latsem.backends.pictures import GAP
from latsem.components.data.crop import centre_crop
from latsem.components.registry import create
from latsem.recipes import load
from latsem.recipes.features import draw_features


def test_every_image_stands_over_its_features_and_all_share_the_colours() -> None:
    generator = torch.Generator().manual_seed(0)
    projection = create("projection", "pca", channels=3, features=12)
    grids = torch.randn(10, 12, 4, 4, generator=generator)
    projection.fit([grids])
    images = torch.randint(0, 256, (10, 3, 256, 256), generator=generator, dtype=torch.uint8)
    images[9], grids[9] = images[0], grids[0]
    sheet = np.asarray(features_picture(images, [grids[:6], grids[6:]], projection))
    assert sheet.shape == (4 * (256 + GAP) + GAP, 8 * (256 + GAP) + GAP, 3)

    def cell(row: int, column: int) -> np.ndarray:
        top, left = GAP + row * (256 + GAP), GAP + column * (256 + GAP)
        return sheet[top : top + 256, left : left + 256]

    assert np.array_equal(cell(0, 3), images[3].permute(1, 2, 0).numpy())
    assert np.array_equal(cell(2, 1), cell(0, 0)) and np.array_equal(cell(3, 1), cell(1, 0))
    assert not np.array_equal(cell(1, 1), cell(1, 0)) and (cell(3, 2) == 255).all()
    patch = cell(1, 4)[:64, :64]
    assert (patch == patch[0, 0]).all()


def test_pictures_are_cropped_as_training_images_are_and_all_bad_ones_named(photos: Path) -> None:
    path = photos / "cat" / "000.jpg"
    (pixels,) = read_pictures([path], 32)
    with Image.open(path) as file:
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(centre_crop(file.convert("RGB"), 32)))
    (photos / "text.jpg").write_text("no picture")
    with pytest.raises(UserError) as caught:
        read_pictures([path, photos / "text.jpg", photos / "absent.png"], 32)
    first, second = caught.value.problems
    assert "text.jpg: no image" in first and "absent.png: cannot be read: No such file" in second


def test_features_of_a_recipe_on_pictures_data_and_of_a_run(photos: Path, tmp_path: Path) -> None:
    pictures = sorted((photos / "cat").iterdir())[:3]
    on_pictures = draw_features("pixel_redi", pictures, ["projection=random"], out=tmp_path / "pictures.png")
    small = ["data.size=200", "projection.fit_images=64"]
    on_data = draw_features("pixel_redi", pictures, small, fitted_on="data", out=tmp_path / "data.png")
    assert (on_pictures.statistics, on_data.statistics) == ("these 3 pictures", "64 images of the data")
    run = load("pixel_coredi", QUICK_JOINT).run(root=tmp_path / "runs", quiet=True)
    trained = draw_features(str(run.folder), pictures, out=tmp_path / "run.png")
    assert trained.statistics == "the run, step 4"
    contents = {drawn.path.read_bytes() for drawn in (on_pictures, on_data, trained)}
    assert len(contents) == 3
    again = draw_features(str(run.folder), pictures, out=tmp_path / "again.png")
    assert again.path.read_bytes() == trained.path.read_bytes()


def test_the_command(cli: Callable[..., subprocess.CompletedProcess[str]], photos: Path, tmp_path: Path) -> None:
    """The data of a recipe need not be there: the pictures are enough."""
    picture = str(photos / "dog" / "002.jpg")
    tiny = "encoder={name: vit_tiny, pretrained: false}"
    done = cli("features", "imagenet256/latent_redi_b", picture, tiny)
    assert done.returncode == 0, done.stderr
    said, path = done.stdout.splitlines()
    assert said == "statistics of this picture" and path.startswith("features-vit_tiny-pca-")
    with Image.open(tmp_path / path) as drawn:
        assert drawn.size == (256 + 2 * GAP, 2 * 256 + 3 * GAP)
    alone = cli("features", "pixel_jit", picture)
    assert alone.returncode == 2 and "add encoder=NAME projection=pca" in alone.stderr
    nothing = cli("features", "pixel_redi", "encoder=shapes_dino")
    assert nothing.returncode == 2 and nothing.stderr == "features: name at least one picture file\n"
