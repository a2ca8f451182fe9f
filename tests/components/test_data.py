from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import save_dataset, write_shards
from PIL import Image

from latsem.components.data.shapes import BLOCK, OBJECTS, coverage, draw_scenes
from latsem.components.data.source import Source, blocks_of
from latsem.components.images import to_pixels, to_unit
from latsem.components.registry import available, create


def make(name: str, photos: Path) -> Source:
    values = {
        "shapes": lambda: {"size": 700},
        "folder": lambda: {"root": photos},
        "webdataset": lambda: {"shards": f"{write_shards(photos)}/*.tar", "cache": photos.parent / "cache"},
        "huggingface": lambda: {"dataset": str(save_dataset(photos))},
    }[name]()
    source: Source = create("data", name, **values)
    return source


@pytest.mark.parametrize("name", available("data"))
def test_source_contract(name: str, photos: Path) -> None:
    source, again = make(name, photos), make(name, photos)
    assert isinstance(source, Source)
    assert len(source.class_names) == source.num_classes
    assert f"{len(source):,}" in source.describe()
    for index in (0, len(source) - 1, len(source) // 2):
        image, label = source.item(index, 7)
        assert image.shape == (3, source.image_size, source.image_size) and image.dtype == torch.uint8
        assert 0 <= label < source.num_classes
        same, same_label = again.item(index, 7)
        assert torch.equal(image, same) and label == same_label
        assert source.key(index) == again.key(index)
    assert len({source.key(index) for index in range(len(source))}) == len(source)
    assert source.fingerprint() == again.fingerprint()
    blocks = blocks_of(source)
    assert blocks is None or sum(blocks) == len(source)
    with pytest.raises(IndexError):
        source.item(len(source), 0)


def test_pixels_survive_the_unit_range() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    unit = to_unit(pixels)
    assert unit.min() == -1 and unit.max() == 1
    assert torch.equal(to_pixels(unit), pixels)


def test_shapes_do_not_depend_on_the_size_of_the_set() -> None:
    small, large = create("data", "shapes", size=10), create("data", "shapes", size=2000)
    assert torch.equal(small.item(9, 0)[0], large.item(9, 0)[0])
    other = create("data", "shapes", size=10, seed=1)
    assert not torch.equal(small.item(9, 0)[0], other.item(9, 0)[0])
    with pytest.raises(IndexError):
        small.item(10, 0)


def test_shapes_without_labels_are_the_same_images() -> None:
    labelled, plain = create("data", "shapes", size=10), create("data", "shapes", size=10, labels="none")
    assert plain.num_classes == 0 and plain.class_names == () and "unlabelled" in plain.describe()
    assert torch.equal(labelled.item(9, 0)[0], plain.item(9, 0)[0])
    assert {plain.item(index, 0)[1] for index in range(10)} == {0}


def test_shapes_classes_are_balanced_and_objects_visible() -> None:
    scenes = draw_scenes(0, 0)
    counts = np.bincount(scenes.object, minlength=len(OBJECTS))
    assert counts.min() > 0.7 * BLOCK / len(OBJECTS)
    area = coverage(scenes).mean((1, 2))
    assert area.min() > 0.05 and area.max() < 0.45


def test_shapes_turn_no_further_than_asked_and_nothing_else_changes() -> None:
    free, held = draw_scenes(0, 0), draw_scenes(0, 0, rotation=15)
    assert np.abs(np.rad2deg(held.angle) - 180).max() == pytest.approx(15, abs=0.2)
    assert np.rad2deg(free.angle).min() < 5 and np.rad2deg(free.angle).max() > 355
    others = [name for name in vars(free) if name != "angle"]
    assert all(np.array_equal(getattr(free, name), getattr(held, name)) for name in others)


def test_upright_shapes_are_mirror_images_of_themselves_and_point_up() -> None:
    scenes = replace(draw_scenes(0, 0, rotation=0), centre=np.zeros((BLOCK, 2), np.float32))
    covered = coverage(scenes)
    assert np.allclose(covered, covered[:, :, ::-1], atol=1e-3)
    triangles = covered[scenes.object == OBJECTS.index("triangle")]
    assert (triangles[:, 16:].sum((1, 2)) > triangles[:, :16].sum((1, 2))).all()


def test_shapes_edges_are_soft_and_areas_right() -> None:
    scenes = draw_scenes(0, 0)
    covered = coverage(scenes)
    discs = scenes.object == OBJECTS.index("disc")
    # 2x2 is the picture's own area: a disc of relative radius 0.92 r covers pi (0.92 r)^2 / 4 of it.
    expected = np.pi * (0.92 * scenes.radius[discs]) ** 2 / 4
    assert np.allclose(covered[discs].mean((1, 2)), expected, rtol=0.02)
    assert ((covered > 0.05) & (covered < 0.95)).any(axis=(1, 2)).all()


def test_folder_labels_crops_and_mirrors(photos: Path) -> None:
    source = create("data", "folder", root=photos, image_size=16)
    assert source.class_names == ("cat", "dog") and len(source) == 100
    assert "100 images" in source.describe() and "2 classes" in source.describe()
    plain, mirrored = source.item(3, 2)[0], source.item(3, 3)[0]
    assert torch.equal(plain.flip(-1), mirrored)
    fixed = create("data", "folder", root=photos, image_size=16, flip=False)
    assert torch.equal(fixed.item(3, 3)[0], plain)


def test_folder_of_exact_size_keeps_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    source = create("data", "folder", root=tmp_path, image_size=20, flip=False)
    assert source.num_classes == 0
    assert np.array_equal(source.item(0, 0)[0].numpy().transpose(1, 2, 0), pixels)


def test_folder_names_and_counts_what_it_leaves_out(photos: Path) -> None:
    (photos / "cat" / "broken.jpg").write_bytes(b"not an image")
    source = create("data", "folder", root=photos)
    assert len(source) == 100 and "1 unreadable left out (cat/broken.jpg)" in source.describe()
    (photos / "cat" / "broken2.png").write_bytes(b"")
    with pytest.raises(OSError, match=r"2 of 102 image files .*cat/broken.jpg, cat/broken2.png"):
        create("data", "folder", root=photos)


def test_folder_replaces_a_file_whose_pixels_are_cut_off(photos: Path) -> None:
    victim = sorted((photos / "cat").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    source = create("data", "folder", root=photos, max_unreadable=0.02)
    index = [photos / path for path in source.paths].index(victim)
    with pytest.warns(UserWarning, match="damaged, left out"):
        image, _ = source.item(index, 0)
    assert torch.equal(image, source.item(index + 1, 0)[0])
