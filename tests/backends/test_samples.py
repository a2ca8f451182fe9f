"""`latsem sample`: which checkpoint, which class, what a picture is called and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, QUICK_JOINT
from PIL import Image

from latsem.backends.checkpointing.weights import load_weights
from latsem.backends.errors import UserError
from latsem.backends.pictures import GAP, grid_picture, png_notes, save_picture, semantic_picture
from latsem.backends.sampling import TrainedRun
from latsem.recipes import load
from latsem.recipes.assemble import open_run


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a labelled run with checkpoints of steps 2 and 4."""
    recipe = load("pixel_coredi", [*QUICK_JOINT, "evaluate.samples=0", "train.picture_images=0"])
    return recipe.run(root=tmp_path_factory.mktemp("runs"), name="a", quiet=True).folder


@pytest.fixture
def run(joint: Path) -> TrainedRun:
    return open_run(joint)


def text_of(path: Path) -> dict[str, str]:
    with Image.open(path) as picture:
        return dict(picture.text)  # type: ignore[attr-defined]


def test_a_class_has_its_name_and_its_number(run: TrainedRun) -> None:
    assert [run.class_of(name) for name in ("disc", "square", "ring", "0", "4")] == [0, 1, 4, 0, 4]
    with pytest.raises(UserError, match="no such class, did you mean 'square'.*there are 5.*by name: disc, square"):
        run.class_of("squar")
    for text in ("5", "-1", "1.0", ""):
        with pytest.raises(UserError, match=f"--class {text}: no such class"):
            run.class_of(text)
    # A class that is called by a number is meant by it, wherever it lies.
    run.classes = ("10", "2", "0")
    assert [run.class_of(name) for name in ("10", "2", "0", "3")] == [0, 1, 2, 3]
    run.classes = ()
    assert run.class_of("3") == 3
    with pytest.raises(UserError, match=r"\(there are 5, counted from 0\)"):
        run.class_of("disc")


def test_unlabelled_images_have_no_class(tmp_path: Path) -> None:
    recipe = load("pixel_jit", [*QUICK, "data.labels=none", "evaluate.samples=0", "train.picture_images=0"])
    opened = open_run(recipe.run(root=tmp_path, quiet=True).folder)
    with pytest.raises(UserError, match="--class 0: the run was trained on unlabelled images"):
        opened.class_of("0")
    with pytest.raises(UserError, match="--semantics: .* has no semantic stream"):
        opened.draw_samples(2, 0, semantics=True)
    assert text_of(opened.draw_samples(2, 0))["classes"] == "balanced"


def test_an_older_checkpoint_is_drawn_from_by_its_step(joint: Path, tmp_path: Path) -> None:
    pictures = [open_run(joint).draw_samples(3, 0, step=step, out=tmp_path / f"{step}.png") for step in (2, 4, None)]
    (older, newer, newest) = (np.asarray(Image.open(path)) for path in pictures)
    assert (newer == newest).all() and (older != newer).any()
    opened = open_run(joint)
    load_weights(joint / "checkpoints" / "step-00000002", opened.parts.model)
    expected = grid_picture(opened.parts.generator(opened.device, opened.precision).images(range(3), 0))
    assert (np.asarray(expected) == older).all()
    with pytest.raises(UserError, match=r"no checkpoint of step 3 \(kept: 2, 4"):
        opened.draw_samples(3, 0, step=3)
    folder = open_run(joint).write_images(3, 0, tmp_path / "images", step=2)
    assert text_of(folder / "000001.png")["step"] == "2"


NAMES: list[tuple[Callable[[Path], Path], str]] = [
    (lambda run: open_run(run).draw_samples(3, 7), "sample-00000004-n3-seed7.png"),
    (lambda run: open_run(run).draw_samples(3, 0, 1), "sample-00000004-n3-seed0-class=square.png"),
    (lambda run: open_run(run).draw_samples(2, 0, "random"), "sample-00000004-n2-seed0-random.png"),
    (lambda run: open_run(run).draw_samples(2, 0, semantics=True), "sample-00000004-n2-seed0-semantics.png"),
    (
        lambda run: open_run(run, ["guidance.scale=3", "sampler=euler", "sampler.steps=2"]).draw_samples(2, 0, step=2),
        "sample-00000002-n2-seed0-cfg+scale=3.0-euler+steps=2.png",
    ),
    (lambda run: open_run(run, ["guidance=none"]).draw_samples(2, 0), "sample-00000004-n2-seed0-none.png"),
]


@pytest.mark.parametrize(("draw", "name"), NAMES, ids=[name for _, name in NAMES])
def test_a_picture_is_named_by_what_is_not_as_in_the_recipe(
    draw: Callable[[Path], Path], name: str, joint: Path
) -> None:
    path = draw(joint)
    assert path.name == name and path.parent == joint / "samples" and path.is_file()


def test_names_of_other_images_are_others_however_long_they_are(run: TrainedRun) -> None:
    run.classes = ("a/b", "a b", "x" * 90, "x" * 89 + "y", "a_b")
    names = [run._sample_name(4, 1, 0, label) for label in range(5)]
    assert len(set(names)) == 5 and all("/" not in name and len(name) < 120 for name in names)


def test_pictures_say_how_they_came_about(joint: Path, tmp_path: Path) -> None:
    run = open_run(joint, ["guidance.scale=3"])
    text = text_of(run.draw_samples(2, 5, 1, out=tmp_path / "x.png"))
    assert text["Software"].startswith("latsem")
    assert text["guidance"].startswith("cfg scale=3.0") and text["sampler"].startswith("heun steps=2")
    expected = {"recipe": "pixel_coredi", "run": "a", "step": "4", "seed": "5", "class": "1 (square)", "images": "2"}
    assert text.items() >= expected.items()
    folder = open_run(joint).write_images(7, 3, tmp_path / "images")
    each = [text_of(folder / f"{index:06d}.png") for index in range(7)]
    assert [one["class"].split(" ")[0] for one in each] == ["0", "1", "2", "3", "4", "0", "1"]
    assert all(one.items() >= {"index": str(index), "seed": "3"}.items() for index, one in enumerate(each))


def test_text_of_a_picture_may_be_anything(tmp_path: Path) -> None:
    notes = {"class": "b\udcff", "recipe": "日本", "run": "café"}
    save_picture(Image.new("RGB", (2, 2)), tmp_path / "x.png", notes)
    assert text_of(tmp_path / "x.png") == {"class": "b\\udcff", "recipe": "日本", "run": "café"}
    assert not png_notes({}).chunks


def test_where_a_picture_goes_is_said_before_it_is_drawn(joint: Path, tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "x.jpg", tmp_path / "x"):
        with pytest.raises(UserError, match="--out: .*one picture is written as a .png; --to FOLDER"):
            open_run(joint).draw_samples(2, 0, out=out)
    assert open_run(joint).draw_samples(2, 0, out=tmp_path / "new" / "x.PNG").is_file()


def test_the_stream_is_under_its_image_in_every_row() -> None:
    images = torch.linspace(-1, 1, 5).reshape(5, 1, 1, 1).expand(5, 3, 64, 64)
    stream = torch.randn(5, 4, 8, 8)
    picture = np.asarray(semantic_picture(images, stream, columns=2))
    side = 64 + GAP
    factor = picture.shape[1] // (2 * side + GAP)
    assert picture.shape[0] == (6 * side + GAP) * factor
    tiles = picture[::factor, ::factor]
    for index in range(5):
        top, left = GAP + 2 * (index // 2) * side, GAP + index % 2 * side
        assert abs(int(tiles[top, left, 0]) - 255 * index / 4) <= 1
        below = tiles[top + side : top + side + 64, left : left + 64]
        # One colour for each of 8 x 8 places.
        assert (below.reshape(8, 8, 8, 8, 3) == below.reshape(8, 8, 8, 8, 3)[:, :1, :, :1]).all()
        assert len(np.unique(below.reshape(-1, 3), axis=0)) > 30
    assert (tiles[GAP + 4 * side :, GAP + side :] == 255).all(), "nothing in the place of a sixth image"
