from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

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


def test_shipped_recipes_are_found_by_any_of_their_names(tmp_path: Path) -> None:
    path = shipped_recipes()["pixel_coredi"]
    for name in ("pixel_coredi", "pixel_coredi.yaml", "recipes/pixel_coredi.yaml"):
        assert find_recipe(name).resolve() == path.resolve()
        (tmp_path / "pixel_coredi").mkdir(exist_ok=True)
        assert find_recipe(name, beside=tmp_path).resolve() == path.resolve()
    with pytest.raises(UserError, match="did you mean 'pixel_coredi'"):
        find_recipe("pixel_corredi")


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 16_000,
        "a: " + "[" * 8_000 + "]" * 8_000,
        "a: " + "{a: " * 16_000,
        "a:\n  " + "- " * 16_000,
        "? " * 16_000,
    ],
)
def test_deep_nesting_is_refused_at_its_beginning(text: str, tmp_path: Path) -> None:
    read: list[int] = []
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match=r"r.yaml:\d: nested deeper than 20"):
        fetch = yaml.scanner.Scanner.fetch_more_tokens
        patch.setattr(yaml.scanner.Scanner, "fetch_more_tokens", lambda scanner: (read.append(1), fetch(scanner))[1])
        read_yaml(write(tmp_path / "r.yaml", text), "r.yaml")
    # A simple key may be 1,024 characters long, and so far the scanner looks ahead.
    assert len(read) < 3_000


SECRETS = [
    "root:$6$hush$hush:19000:0:99999:7:::\ndaemon:*hush:19000:0:99999:7:::\n",
    "password: hush\ntoken: hush\n",
    "hush: 1\nhush: 2\n",
    "- hush\n",
    "'hush': [1\n",
    "!hush x\n",
    "&hush x\n",
    "%hush 1\n---\nx\n",
    "a: *hush\n",
    "hush",
    "-----BEGIN KEY-----\nhush==\n-----END KEY-----\n",
    "[default]\nkey = hush\n",
    '{"hush": {"hush": "hush"}}',
]


@pytest.mark.parametrize("text", SECRETS)
def test_nothing_is_repeated_of_a_file_that_is_no_recipe(text: str, tmp_path: Path) -> None:
    write(tmp_path / "secret", text)
    for path in (tmp_path / "secret", write(tmp_path / "r.yaml", "base: secret\n")):
        with pytest.raises(UserError) as caught:
            read_layers(path, [])
        assert "hush" not in str(caught.value) and len(caught.value.problems) == 1


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "broken.yaml").symlink_to("nowhere.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    run = tmp_path / "runs" / "a" / "b"
    write(run / "resolved.json", "{}")
    for name, message in [
        ("folder.yaml", "is a folder; a recipe is a YAML file"),
        ("pipe.yaml", "is no file"),
        ("loop.yaml", "no such recipe"),
        ("broken.yaml", "no such recipe"),
        ("x" * 300, "cannot be read"),
        ("a\0b", "no such recipe"),
        ("~nobody_of_that_name/x.yaml", "stands for the home folder"),
        ("folder.yaml/x.yaml", "no such recipe"),
        ("runs/a/b", "is a run, not a recipe"),
        ("/dev/zero", "is no file"),
    ]:
        top = write(tmp_path / "top.yaml", f"base: {json.dumps(name)}\n")
        with pytest.raises(UserError, match=message):
            read_layers(top, [])
        with pytest.raises(UserError, match=message):
            read_layers(find_recipe(name, beside=tmp_path), [])


def test_control_characters_and_encodings(tmp_path: Path) -> None:
    for content, message in [
        (b"a: \x07\n", "not YAML: it has control characters"),
        ("base: pixel_jit\n".encode("utf-16"), "not UTF-8 text"),
        (b"\x00" * 100, "not YAML: it has control characters"),
        ("base: pixel_jit\ntrain:\u00a0{steps: 2}\n- x".encode(), r"\(line 2 has a no-break space\)"),
    ]:
        (tmp_path / "r.yaml").write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_yaml(tmp_path / "r.yaml", "r.yaml")
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbfbase: pixel_jit\r\ntrain: {steps: 3}\r\n")
    assert read_yaml(tmp_path / "r.yaml", "r.yaml").values == {"base": "pixel_jit", "train": {"steps": "3"}}
