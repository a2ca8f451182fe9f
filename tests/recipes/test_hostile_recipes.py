"""Recipes that nobody would write: every one is read, or refused by lines that name the key."""

from __future__ import annotations

import copy
import io
import string
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import torture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latsem.backends.errors import UserError
from latsem.cli.main import main
from latsem.recipes import load
from latsem.recipes.yaml_reader import KeyPath

NAMES = ["pixel_coredi", "latent_redi", "imagenet256/latent_coredi_b"]
LIMITS = settings(
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


def written(file: Path, values: Any) -> Path:
    file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return file


def read(file: Path, overrides: tuple[str, ...] = (), *, base: str | None = None) -> list[str]:
    """Return the problems of a recipe, one a line, and check that the command says them; none if it can be used."""
    what = base or str(file)
    try:
        load(what, overrides, data="expected")
    except UserError as error:
        assert error.problems and command("check", what, *overrides) == (2, "\n".join([*error.problems, ""]))
        return list(error.problems)
    return []


def command(*arguments: str) -> tuple[int, str]:
    """Return exit code and error stream of a command, without a process of its own."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(said), pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["latsem", *arguments])
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.getvalue()


Check = Callable[[st.DataObject, dict[str, Any], Path], bool]
"""Looks at one broken recipe; returns whether it was refused."""


def hostile(check: Check) -> Callable[..., None]:
    """Make a test of a check: of 100 examples, of 400 of each kind where it counts."""

    @pytest.mark.parametrize("examples", [100, torture(400)])
    def test(examples: int, resolved: dict[str, Any], tmp_path: Path, figure: Callable[[str], None]) -> None:
        counts = Counter[bool]()

        @settings(LIMITS, max_examples=examples)
        @given(data=st.data())
        def every(data: st.DataObject) -> None:
            counts[check(data, copy.deepcopy(resolved), tmp_path / "r.yaml")] += 1

        every()
        figure(f"{examples} recipes, {what}: {counts[True]} refused with exit code 2, {counts[False]} of use after all")

    what = check.__name__.removeprefix("test_").replace("_", " ")
    return test


@pytest.fixture(scope="module")
def resolved() -> dict[str, Any]:
    return {name: load(name, data="unused").resolved() for name in NAMES}


@hostile
def test_a_value_of_another_kind(data: st.DataObject, resolved: dict[str, Any], file: Path) -> bool:
    values = resolved[data.draw(st.sampled_from(NAMES))]
    path = data.draw(st.sampled_from(sorted(paths(values), key=str)))
    parent(values, path)[path[-1]] = data.draw(JUNK)
    problems = read(written(file, values))
    # A value may be of use after all, or clash with another one, which is named then.
    named = [str(key) for key in path]
    assert not problems or any(any(name in line for name in named) for line in problems), (path, problems)
    return bool(problems)


@hostile
def test_a_key_that_there_is_not(data: st.DataObject, resolved: dict[str, Any], file: Path) -> bool:
    values = resolved[data.draw(st.sampled_from(NAMES))]
    sections = [()] + [path for path in paths(values) if isinstance(parent(values, (*path, "")), dict)]
    section = data.draw(st.sampled_from(sorted(sections, key=str)))
    there = parent(values, (*section, ""))
    known = {"base", "plugins", *there}
    key = data.draw(st.text(string.ascii_letters + "_", min_size=1, max_size=12).filter(lambda key: key not in known))
    there[key] = data.draw(JUNK)
    problems = read(written(file, values))
    assert any(key in line for line in problems), (section, key, problems)
    return True


@hostile
def test_a_key_that_is_gone_or_at_another_place(data: st.DataObject, resolved: dict[str, Any], file: Path) -> bool:
    values = resolved[data.draw(st.sampled_from(NAMES))]
    path = data.draw(st.sampled_from(sorted(paths(values), key=str)))
    value = parent(values, path).pop(path[-1])
    other = data.draw(st.sampled_from(sorted(paths(values), key=str)) | st.none())
    if other is not None:
        parent(values, other)[other[-1]] = value
    return bool(read(written(file, values)))


HITS = [b"&a ", b"*a", b"!!python/object:os.system ", b"<<: ", b"- ", b"{", b"\x00", b"\xff", b"? ", b"| ", b"%"]


@hostile
def test_bytes_that_were_hit(data: st.DataObject, resolved: dict[str, Any], file: Path) -> bool:
    content = bytearray(yaml.safe_dump(resolved[data.draw(st.sampled_from(NAMES))]).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(content) - 1))
        hit = data.draw(st.binary(max_size=4) | st.sampled_from(HITS))
        content[place : place + data.draw(st.integers(0, 3))] = hit
    file.write_bytes(content)
    problems = read(file)
    assert all("r.yaml" in line or ":" in line for line in problems)
    return bool(problems)


@hostile
def test_changes_of_the_command_line(data: st.DataObject, resolved: dict[str, Any], file: Path) -> bool:
    del resolved, file
    change = f"{data.draw(WORDS)}={data.draw(WORDS)}"
    # What begins with a dash is an option, of which the command line speaks itself.
    return not change.startswith("-") and bool(read(Path(), (change,), base="pixel_jit"))
