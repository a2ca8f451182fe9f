from __future__ import annotations

from pathlib import Path

import pytest

from latsem.backends.errors import UserError
from latsem.recipes.layers import find_recipe, read_layers, shipped_recipes
from latsem.recipes.yaml_reader import read_yaml


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_every_value_knows_its_line(tmp_path: Path) -> None:
    recipe = read_yaml(
        write(tmp_path / "r.yaml", "# a\ndata:\n  name: folder\n  root: x\ntrain: {steps: 3}\n"), "r.yaml"
    )
    assert recipe.values == {"data": {"name": "folder", "root": "x"}, "train": {"steps": "3"}}
    assert recipe.place(("data", "root")) == "r.yaml:4"
    assert recipe.place(("train", "steps")) == "r.yaml:5"
    assert recipe.place(("data", "absent", "deeper")) == "r.yaml:2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "r.yaml:2: a: the key is there twice"),
        ("a: [1\n", "r.yaml:2: not YAML"),
        ("- 1\n", "r.yaml:1: a recipe is a mapping"),
        ("a: &x 1\nb: *x\n", "aliases are not used"),
        ("a: !!python/object:os.system x\n", "r.yaml:1: tags are not used"),
        ("{[1]: 2}\n", "a key must be a plain name"),
        ("a: " + "{a: " * 25 + "1" + "}" * 25, "nested deeper than 20"),
    ],
)
def test_what_is_no_recipe_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_yaml(write(tmp_path / "r.yaml", text), "r.yaml")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not UTF-8 text"):
        (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
        read_yaml(tmp_path / "b.yaml", "b.yaml")
    with pytest.raises(UserError, match="larger than"):
        read_yaml(write(tmp_path / "big.yaml", "# " + "x" * 1_000_001), "big.yaml")


def test_bases_are_found_beside_the_file_or_shipped_and_lines_point_into_them(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "base: pixel_jit\ntrain:\n  steps: 7\n  lr: 0.5\n")
    top = write(tmp_path / "top.yaml", "base: base.yaml\ntrain: {lr: 0.25}\n")
    recipe = read_layers(top, ["train.warmup=2", "encoder=shapes_vit"])
    assert recipe.values["train"]["steps"] == 7 and recipe.values["train"]["lr"] == 0.25
    assert recipe.values["train"]["warmup"] == 2 and recipe.values["backend"] == "pixel"
    assert recipe.place(("train", "steps")).endswith("base.yaml:3")
    assert recipe.place(("train", "lr")).endswith("top.yaml:2")
    assert recipe.place(("encoder",)) == "command line"


def test_circles_and_missing_bases_are_named(tmp_path: Path) -> None:
    one = write(tmp_path / "one.yaml", "base: two.yaml\n")
    write(tmp_path / "two.yaml", "base: one.yaml\n")
    with pytest.raises(UserError, match="in a circle: one.yaml -> two.yaml -> one.yaml"):
        read_layers(one, [])
    lost = write(tmp_path / "lost.yaml", "train: {}\nbase: pixel_jti\n")
    with pytest.raises(UserError, match=r"lost.yaml:2: base: pixel_jti: no such recipe, did you mean 'pixel_jit'"):
        read_layers(lost, [])


@pytest.mark.parametrize("override", ["steps", "=3", "train..steps=3", ".a=1"])
def test_an_override_is_key_equals_value(override: str) -> None:
    with pytest.raises(UserError, match="an override is written key=value"):
        read_layers(shipped_recipes()["pixel_jit"], [override])


def test_shipped_recipes_are_found_by_any_of_their_names() -> None:
    path = shipped_recipes()["pixel_coredi"]
    for name in ("pixel_coredi", "pixel_coredi.yaml", "recipes/pixel_coredi.yaml"):
        assert find_recipe(name).resolve() == path.resolve()
    with pytest.raises(UserError, match="did you mean 'pixel_coredi'"):
        find_recipe("pixel_corredi")
