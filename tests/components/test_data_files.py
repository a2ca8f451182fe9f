"""Sources of encoded images: the same pixels whatever they lie in, in an order that is fair, and damage counted."""

from __future__ import annotations

import importlib.util
import io
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import save_dataset
from PIL import Image

from latsem.components.data import folder
from latsem.components.data.classes import classes_of
from latsem.components.data.crop import OversizedPicture, centre_crop
from latsem.components.data.files import find_images
from latsem.components.data.huggingface import HuggingFaceDataset
from latsem.components.data.settings import HuggingFaceSettings
from latsem.components.registry import build, create


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("size", "left", "top"), [((9, 8), 0, 0), ((11, 8), 1, 0), ((8, 8), 0, 0), ((8, 13), 0, 2)])
def test_a_picture_of_the_right_short_side_is_only_cropped_at_whole_pixels(
    size: tuple[int, int], left: int, top: int
) -> None:
    picture = noise(*size)
    expected = np.asarray(picture)[top : top + 8, left : left + 8]
    assert np.array_equal(np.asarray(centre_crop(picture, 8)), expected)


def test_powers_of_two_are_averaged_in_blocks() -> None:
    """Pillow rounds halves up, after each direction of every halving."""
    picture = noise(64, 32)
    pixels = np.asarray(picture).astype(np.int64)
    for _ in range(2):
        pixels = (pixels[:, ::2] + pixels[:, 1::2] + 1) // 2
        pixels = (pixels[::2] + pixels[1::2] + 1) // 2
    assert np.array_equal(np.asarray(centre_crop(picture, 8)), pixels[:, 4:12])


def bicubic(values: np.ndarray, size: int) -> np.ndarray:
    """Resize the first axis by Keys' cubic (a = -1/2), widened to the scale where that shrinks."""
    scale = len(values) / size
    width = max(scale, 1.0)
    centres = (np.arange(size) + 0.5) * scale
    x = np.abs((np.arange(len(values)) + 0.5 - centres[:, None]) / width)
    weights = np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))
    weights /= weights.sum(1, keepdims=True)
    return np.rint(np.clip(np.tensordot(weights, values, 1), 0, 255))


@pytest.mark.parametrize("size", [(75, 50), (41, 63), (20, 17)])
def test_other_sizes_are_resized_by_the_cubic_formula(size: tuple[int, int]) -> None:
    picture = noise(*size)
    short = min(size)
    width, height = (round(side * 32 / short) for side in size)
    pixels = np.asarray(picture).astype(np.float64)
    resized = bicubic(bicubic(pixels.transpose(1, 0, 2), width).transpose(1, 0, 2), height)
    top, left = (height - 32) // 2, (width - 32) // 2
    difference = np.asarray(centre_crop(picture, 32)) - resized[top : top + 32, left : left + 32]
    assert np.abs(difference).max() <= 1, "Pillow's weights are whole multiples of 2**-22"


def test_a_thin_picture_is_not_blown_up() -> None:
    with pytest.raises(OversizedPicture, match="too long and thin: 20000x1 pixels"):
        centre_crop(Image.new("RGB", (20_000, 1)), 256)


def test_the_first_images_are_a_fair_draw_of_all_classes_in_the_same_order_everywhere(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"class{number}" / "deep").mkdir(parents=True)
        for image in range(50):
            (tmp_path / f"class{number}" / "deep" / f"{image}.png").touch()
    found = find_images(tmp_path).images
    assert len(found) == 500 and found[0] == "class6/deep/9.png"
    counts = [sum(name.startswith(f"class{number}/") for name in found[:100]) for number in range(10)]
    assert min(counts) >= 3 and max(counts) <= 20
    assert classes_of(find_images(tmp_path)).names == tuple(f"class{number}" for number in range(10))
    (tmp_path / "class3" / "new.jpg").touch()
    assert [name for name in find_images(tmp_path).images if name != "class3/new.jpg"] == list(found)


def test_only_so_many_headers_are_read_and_the_rest_is_found_when_read(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "CHECKED_FIRST", 60)
    names = find_images(photos).images
    for name in (names[7], names[80]):
        (photos / name).write_bytes(b"damaged")
    source = create("data", "folder", root=photos, max_unreadable=0.02)
    assert len(source) == 99 and source.unreadable == {names[7]}
    with pytest.warns(UserWarning, match=f"{names[80]} below .*: damaged, left out"):
        image, label = source.item(79, 0)
    assert torch.equal(image, source.item(80, 0)[0])
    assert label == source.class_names.index(names[81].split("/")[0]) and "2 unreadable" in source.describe()
    with pytest.raises(OSError, match=r"1 of 60 image files"):
        create("data", "folder", root=photos)


def saved(photos: Path, **values: object) -> HuggingFaceDataset:
    source: HuggingFaceDataset = create("data", "huggingface", dataset=str(save_dataset(photos)), **values)
    return source


def row_of(source: HuggingFaceDataset, index: int) -> int:
    return int(source.key(index).removeprefix("row "))


def test_a_dataset_gives_the_images_of_the_folder_in_a_fair_order(photos: Path) -> None:
    source, root = saved(photos), create("data", "folder", root=photos)
    assert source.class_names == ("cat", "dog") and len(source) == 100 and "2 classes" in source.describe()
    assert 10 <= sum(source.item(index, 0)[1] for index in range(40)) <= 30, "the rows are sorted by class"
    files = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.*"))
    for index in (0, 50, 99):
        image, label = source.item(index, 1)
        expected, expected_label = root.item(root.paths.index(files[row_of(source, index)]), 1)
        assert torch.equal(image, expected) and label == expected_label
    sent = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert torch.equal(sent.item(5, 0)[0], source.item(5, 0)[0])
    assert saved(photos, labels="none").num_classes == 0


def test_a_parquet_file_and_a_folder_are_datasets_too(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", photos.parent / "hf")
    whole = saved(photos)
    (photos.parent / "parquet").mkdir()
    file = photos.parent / "parquet" / "train.parquet"
    datasets.load_from_disk(str(save_dataset(photos))).to_parquet(str(file))
    for place in (file, file.parent, photos):
        other = create("data", "huggingface", dataset=str(place))
        assert other.class_names == ("cat", "dog") and len(other) == 100
        if place != photos:
            assert torch.equal(other.item(7, 0)[0], whole.item(7, 0)[0])
    image, label = other.item(0, 0)
    assert image.shape == (3, 32, 32) and label in (0, 1)


def test_columns_are_found_or_asked_for(tmp_path: Path) -> None:
    import datasets

    encoded = io.BytesIO()
    noise(9, 9).save(encoded, "png")
    rows = {
        "fine": [0, 3],
        "coarse": [1, 0],
        "number": [2, 4],
        "text": ["a", "b"],
        "gaps": [1, None],
        "img": [{"bytes": encoded.getvalue(), "path": None}, {"bytes": b"damaged", "path": None}],
    }
    classes = {name: datasets.ClassLabel(names=list("abcd")) for name in ("fine", "coarse")}
    others = {"number": datasets.Value("int32"), "text": datasets.Value("string"), "gaps": datasets.Value("int64")}
    features = datasets.Features({**classes, **others, "img": datasets.Image()})
    table = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"test": table}).save_to_disk(str(tmp_path / "set"))

    def made(**values: object) -> HuggingFaceDataset:
        source: HuggingFaceDataset = create(
            "data", "huggingface", dataset=str(tmp_path / "set"), **{"split": "test", **values}
        )
        return source

    numbered = made(label="number", max_unreadable=0.5, image_size=8)
    assert numbered.num_classes == 5 and made(label="fine").class_names == tuple("abcd")
    with pytest.warns(UserWarning, match=r"row 1 in .* \(test\): damaged, left out"):
        assert {numbered.item(index, 0)[1] for index in range(2)} == {2}
    wrong: list[tuple[dict[str, object], str]] = [
        ({}, "data.label: one of fine, coarse has to be named"),
        ({"label": "text"}, "column 'text' holds something else than a class"),
        ({"label": "gaps"}, "column 'gaps' holds something else"),
        ({"label": "none"}, "no column 'none' of that kind .*fine: ClassLabel"),
        ({"image": "text", "labels": "none"}, "data.image: there is no column 'text' of that kind"),
        ({"split": "train"}, r"no split 'train' \(one of test\): data.split"),
    ]
    for values, named in wrong:
        with pytest.raises(ValueError, match=named) as caught:
            made(**values)
        assert "\n" not in str(caught.value)


def test_whole_numbers_called_labels_are_labels_and_named_bytes_are_images(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoded = io.BytesIO()
    noise(9, 9).save(encoded, "png")
    stored = [{"bytes": encoded.getvalue(), "path": None}] * 4
    raw = [encoded.getvalue()] * 4

    def made(columns: dict[str, list[object]], **values: object) -> HuggingFaceDataset:
        pq.write_table(pa.table(columns), tmp_path / "set.parquet")
        source: HuggingFaceDataset = create(
            "data", "huggingface", dataset=str(tmp_path / "set.parquet"), image_size=8, **values
        )
        source.item(0, 0)
        return source

    numbers: dict[str, list[object]] = {"label": [0, 1, 2, 1], "width": [9, 9, 9, 9]}
    labelled = made({"image": [*stored], **numbers})
    assert labelled.num_classes == 3 and sorted(labelled.item(index, 0)[1] for index in range(4)) == [0, 1, 1, 2]
    plain = made({"image": [*stored], "width": [9, 9, 9, 9]})
    assert plain.num_classes == 0 and plain.describe().endswith("; not taken for labels (data.label): width")
    assert made({"photo": [*raw], **numbers}, image="photo").num_classes == 3
    with pytest.raises(ValueError, match="no column of images"):
        made({"photo": [*raw], **numbers})
    with pytest.warns(UserWarning, match=r"1 of these 3 classes have no image \(0\); labels count from 0"):
        made({"image": [*stored], "label": [1, 2, 1, 2]})
    with pytest.raises(ValueError, match="data.label: one of label, target has to be named"):
        made({"image": [*stored], "label": [0, 1, 0, 1], "target": [0, 1, 1, 1]})


def test_a_dataset_that_cannot_be_had_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    settings = HuggingFaceSettings(dataset="nobody/nothing")
    assert list(settings.problems()) == [] and settings.classes() is None
    assert "there is no file" in next(HuggingFaceSettings(dataset="./nowhere").problems())[1]

    def offline(*arguments: object, **_: object) -> None:
        raise ConnectionError("no route to the hub\nand a long story")

    with monkeypatch.context() as patched, pytest.raises(ValueError, match="ConnectionError: no route") as caught:
        patched.setattr(datasets, "load_dataset", offline)
        build(settings)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot be loaded"):
        (tmp_path / "empty").mkdir()
        create("data", "huggingface", dataset=str(tmp_path / "empty"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=re.escape('pip install "latsem[huggingface]"')):
        build(settings)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert 'pip install "latsem[huggingface]"' in next(settings.problems())[1]
