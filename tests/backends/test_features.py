from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK_JOINT
from PIL import Image

from latsem.backends.errors import UserError
from latsem.backends.features import features_picture, named_pictures, read_pictures
from latsem.backends.pictures import GAP, semantic_colours
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


def test_colours_are_what_tells_most_of_the_features_however_the_stream_is_turned() -> None:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(6, 3, 5, 5, generator=generator) * torch.tensor([9.0, 5.0, 3.0])[:, None, None]
    features = torch.einsum("bkhw,kd->bdhw", hidden, torch.randn(3, 40, generator=generator))
    features = features + 0.1 * torch.randn(6, 40, 5, 5, generator=generator)
    projection = create("projection", "pca", channels=12, features=40, whiten=True)
    projection.fit([features])
    stream = projection(features)
    colours = semantic_colours(stream, features)
    leading = semantic_colours(stream[:, :3], features)
    turned = torch.einsum("bdhw,de->behw", stream, torch.linalg.qr(torch.randn(12, 12, generator=generator))[0])
    for other in (leading, semantic_colours(turned, features), semantic_colours(7 * turned, features)):
        for channel in range(3):
            pair = torch.stack([colours[:, channel].flatten(), other[:, channel].flatten()])
            assert abs(float(torch.corrcoef(pair)[0, 1])) > 0.999
    alone = semantic_colours(turned)
    assert not torch.allclose(alone.abs(), colours.abs(), atol=0.2), "a whitened stream has no widest direction"
    flat = semantic_colours(torch.ones(2, 4, 3, 3), torch.randn(2, 5, 3, 3))
    assert flat.shape == (2, 3, 3, 3) and bool(flat.isfinite().all())


def test_a_folder_stands_for_its_first_pictures(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    named = named_pictures([photos / "dog" / "002.jpg", photos / "cat"])
    assert named == [photos / "dog" / "002.jpg", *sorted((photos / "cat").iterdir())]
    assert len(named_pictures([photos])) == 64
    with pytest.raises(UserError) as caught:
        named_pictures([tmp_path / "empty", photos, photos / "absent.jpg"])
    assert caught.value.problems == (f"{tmp_path / 'empty'}: no picture is below this folder",)


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
    Image.fromarray(np.zeros((32, 32), np.float32)).save(photos / "depth.tif")
    os.mkfifo(photos / "pipe.png")
    with pytest.raises(UserError) as caught:
        read_pictures([photos / "depth.tif", photos / "pipe.png"], 32)
    first, second = caught.value.problems
    assert (
        "depth.tif: cannot be used: pixels are floating-point" in first and "pipe.png: is not a regular file" in second
    )


def test_features_of_a_recipe_on_pictures_data_and_of_a_run(photos: Path, tmp_path: Path) -> None:
    pictures = sorted((photos / "cat").iterdir())[:3]
    on_pictures = draw_features("pixel_redi", pictures, ["projection=random"], out=tmp_path / "pictures.png")
    small = ["data.size=200", "projection.fit_images=64"]
    on_data = draw_features("pixel_redi", pictures, small, fitted_on="data", out=tmp_path / "data.png")
    assert (on_pictures.statistics, on_data.statistics) == ("these 3 pictures", "64 images of the data")
    run = load("pixel_coredi", QUICK_JOINT).run(root=tmp_path / "runs", quiet=True)
    trained = draw_features(str(run.folder), pictures, out=tmp_path / "run.png")
    assert trained.statistics == "the run, step 4"
    # The run began with what is fitted on the data, and four steps have hardly turned it.
    drawn = on_pictures.path.read_bytes()
    assert drawn != on_data.path.read_bytes() and drawn != trained.path.read_bytes()
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
    assert (
        nothing.returncode == 2 and nothing.stderr == "features: name at least one picture file, or a folder of them\n"
    )
