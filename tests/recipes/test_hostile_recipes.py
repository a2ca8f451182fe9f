"""Recipes that nobody would write: every one is read, or refused by lines that name the key."""

from __future__ import annotations

import copy
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latsem.backends.errors import UserError
from latsem.recipes import load
from latsem.recipes.yaml_reader import KeyPath

NAMES = ["pixel_coredi", "latent_redi", "imagenet256/latent_coredi_b"]
hostile = settings(
    max_examples=100,
    deadline=10_000,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20) | st.sampled_from(
    ["", "../../x", "~nobody/x", "null", "=", "a.b", "\u202e", "%s", "{0}", "[red]x[/red]", "x" * 5000, "é" * 300]
)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400, -(10**400), 1e308, 5e-324, float("nan"), float("inf")])
)
SCALARS = st.none() | st.booleans() | NUMBERS | WORDS
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=8
)


def paths(values: Any, at: KeyPath = ()) -> Iterator[KeyPath]:
    if at:
        yield at
    children = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in children:
        yield from paths(value, (*at, key))


def parent(values: Any, path: KeyPath) -> Any:
    for key in path[:-1]:
        values = values[key]
    return values


def read(file: Path, values: Any) -> list[str]:
    """Return the problems of a recipe, one a line; none if it can be used."""
    file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    try:
        load(file, data="expected")
    except UserError as error:
        assert error.problems and all("Traceback" not in line for line in error.problems)
        return list(error.problems)
    return []


@pytest.fixture(scope="module")
def resolved() -> dict[str, Any]:
    return {name: load(name, data="unused").resolved() for name in NAMES}


@given(data=st.data())
@hostile
def test_a_value_of_another_kind(data: st.DataObject, resolved: dict[str, Any], tmp_path: Path) -> None:
    values = copy.deepcopy(resolved[data.draw(st.sampled_from(NAMES))])
    path = data.draw(st.sampled_from(sorted(paths(values), key=str)))
    parent(values, path)[path[-1]] = data.draw(JUNK)
    problems = read(tmp_path / "r.yaml", values)
    # A value may be of use after all, or clash with another one, which is named then.
    named = [str(key) for key in path]
    assert not problems or any(any(name in line for name in named) for line in problems), (path, problems)


@given(data=st.data())
@hostile
def test_a_key_that_there_is_not(data: st.DataObject, resolved: dict[str, Any], tmp_path: Path) -> None:
    values = copy.deepcopy(resolved[data.draw(st.sampled_from(NAMES))])
    sections = [()] + [path for path in paths(values) if isinstance(parent(values, (*path, "")), dict)]
    section = data.draw(st.sampled_from(sorted(sections, key=str)))
    key = data.draw(st.text(string.ascii_letters + "_", min_size=1, max_size=12))
    there = parent(values, (*section, key))
    if key in there or key in ("base", "plugins"):
        return
    there[key] = data.draw(JUNK)
    problems = read(tmp_path / "r.yaml", values)
    assert any(key in line for line in problems), (section, key, problems)


@given(data=st.data())
@hostile
def test_a_key_that_is_gone_or_at_another_place(data: st.DataObject, resolved: dict[str, Any], tmp_path: Path) -> None:
    values = copy.deepcopy(resolved[data.draw(st.sampled_from(NAMES))])
    path = data.draw(st.sampled_from(sorted(paths(values), key=str)))
    value = parent(values, path).pop(path[-1])
    other = data.draw(st.sampled_from(sorted(paths(values), key=str)) | st.none())
    if other is not None:
        parent(values, other)[other[-1]] = value
    read(tmp_path / "r.yaml", values)


@given(data=st.data())
@hostile
def test_bytes_that_were_hit(data: st.DataObject, resolved: dict[str, Any], tmp_path: Path) -> None:
    text = yaml.safe_dump(resolved[data.draw(st.sampled_from(NAMES))]).encode()
    content = bytearray(text)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4) | st.sampled_from(
            [b"&a ", b"*a", b"!!python/object:os.system ", b"<<: ", b"- ", b"{", b"\x00", b"\xff", b"? ", b"| ", b"%"]
        ))  # fmt: skip
    file = tmp_path / "r.yaml"
    file.write_bytes(content)
    try:
        load(file, data="expected")
    except UserError as error:
        assert all("r.yaml" in line or ":" in line for line in error.problems)


@given(key=WORDS, value=WORDS)
@hostile
def test_changes_of_the_command_line(key: str, value: str, tmp_path: Path) -> None:
    try:
        load("pixel_jit", [f"{key}={value}"])
    except UserError as error:
        assert error.problems
