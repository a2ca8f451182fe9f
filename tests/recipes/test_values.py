"""Text of the command line and of files is what the type of its field makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from PIL import Image
from pydantic import Field

from latsem.backends.errors import UserError
from latsem.components.settings import Settings
from latsem.recipes import load
from latsem.recipes.combining import combine
from latsem.recipes.layers import command_line
from latsem.recipes.yaml_reader import read_yaml


class Inner(Settings):
    number: int = 1


class Fields(Settings):
    text: str = ""
    path: Path = Path("x")
    maybe: Path | None = None
    whole: int = 0
    real: float = 0.0
    switch: bool = False
    auto: int | Literal["auto"] = "auto"
    either: bool | Literal["auto"] = "auto"
    names: list[str] = Field(default_factory=list)
    numbers: list[Annotated[float, Field(ge=-1)]] = Field(default_factory=list)
    one_or_many: str | list[str] | None = None
    inner: Inner = Inner()
    keyed: dict[str, Inner] = Field(default_factory=dict)


def given(*overrides: str) -> Any:
    return Fields.model_validate(combine([command_line(overrides)], Fields).values)


AWKWARD = [
    "photos #2", "&co photos", "*star", "a=b", "with space", "2024", "010", "yes", "null", "1e3", "a: b", "[old]",
    "{x}", "{a: b}",
    "- list", "!new", "'q'", '"q"', "x ", " x", "~tilde", "12:30", "2024-01-01", "a\tb", "C:\\photos", "%TAG",
    "@eaDir", "`x`", "|", ">", "?", "? a", "-", ":", "#", "é日本", "true", "0x10", "1_000", ".inf", "", "a\nb",
]  # fmt: skip


@pytest.mark.parametrize("text", AWKWARD)
def test_text_for_a_field_of_text_is_that_text(text: str) -> None:
    assert given(f"text={text}").text == text
    assert given(f"path={text}").path == Path(text)
    if text not in ("null", ""):
        assert given(f"maybe={text}").maybe == Path(text)


@pytest.mark.parametrize("text", ["null", ""])
def test_null_and_nothing_empty_what_may_be_empty(text: str) -> None:
    assert given(f"maybe={text}").maybe is None and given(f"one_or_many={text}").one_or_many is None
    assert given("maybe=./null").maybe == Path("null")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0100", 100), ("1_000", 1000), ("+7", 7), ("-3", -3), ("0x10", 16), ("0o17", 15), ("0b11", 3), ("1e3", 1000),
        ("2.0", 2), ("08", 8), ("-0", 0),
    ],
)  # fmt: skip
def test_whole_numbers_are_decimal(text: str, number: int) -> None:
    assert given(f"whole={text}").whole == number == given(f"auto={text}").auto
    assert type(given(f"whole={text}").whole) is int


@pytest.mark.parametrize(
    "text",
    [
        "1:30",
        "12:30:45",
        "2.5",
        "many",
        "",
        "null",
        "0x",
        "0o9",
        "1__0",
        "_1",
        "1e-3",
        "true",
        "[1]",
        "\u0663",
        "9" * 5000,
    ],
)
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whole"):
        given(f"whole={text}")


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-4", 1e-4), (".5", 0.5), ("5.", 5.0), ("-2.5e+3", -2500.0), ("0100", 100.0), ("1_000.5", 1000.5), ("3", 3.0)],
)
def test_numbers(text: str, number: float) -> None:
    assert given(f"real={text}").real == number and type(given(f"real={text}").real) is float


@pytest.mark.parametrize("text", ["1:30", "1e400", ".inf", "nan", "1e\u22123", "yes", "1,5"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="real"):
        given(f"real={text}")


def test_switches_options_lists_and_sections() -> None:
    words = {"true": True, "yes": True, "On": True, "false": False, "No": False, "off": False}
    for text, value in words.items():
        assert given(f"switch={text}").switch is value and given(f"either={text}").either is value
    assert given("either=auto").either == "auto" == given("auto=auto").auto
    assert given("names=[a, 010, yes, null x, 'a, b', 1:30]").names == ["a", "010", "yes", "null x", "a, b", "1:30"]
    assert given("numbers=[1, .5, 1e-1]").numbers == [1, 0.5, 0.1]
    assert given("one_or_many=[a, b]").one_or_many == ["a", "b"] and given("one_or_many=a, b").one_or_many == "a, b"
    assert given("inner={number: 010}").inner.number == 10 == given("inner.number=010").inner.number
    assert given("keyed={a: {number: 2}}", "keyed.b.number=3").keyed == {"a": Inner(number=2), "b": Inner(number=3)}


def test_what_is_written_as_a_mapping_must_be_one() -> None:
    with pytest.raises(UserError, match=r"command line: inner: not YAML"):
        given("inner={number: 3 #}")
    with pytest.raises(UserError, match="command line: inner: nested deeper than 20 levels"):
        given("inner=" + "{a: " * 9000)


@pytest.mark.parametrize("text", [text for text in AWKWARD if text])
def test_a_file_says_the_same_quoted(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"text": text, "path": text, "names": [text]}, allow_unicode=True))
    values = combine([[read_yaml(tmp_path / "r.yaml", "r.yaml")]], Fields).values
    assert values == {"text": text, "path": text, "names": [text]}


def test_a_file_without_quotes_goes_by_the_type_of_the_field_too(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "text: 010\npath: 2024-01-01\nmaybe: ~\nwhole: 0100\nreal: 1e-4\nswitch: off\nnames: [1e3, yes, 1:30]\n"
    )
    fields = Fields.model_validate(combine([[read_yaml(tmp_path / "r.yaml", "r.yaml")]], Fields).values)
    assert (fields.text, fields.path, fields.maybe, fields.whole) == ("010", Path("2024-01-01"), None, 100)
    assert (fields.real, fields.switch, fields.names) == (1e-4, False, ["1e3", "yes", "1:30"])
    (tmp_path / "r.yaml").write_text("whole: 1:30\n")
    with pytest.raises(ValueError, match="whole"):
        Fields.model_validate(combine([[read_yaml(tmp_path / "r.yaml", "r.yaml")]], Fields).values)


@pytest.mark.parametrize("name", ["photos #2", "&co photos", "010", "null", "[old]", "{x}", "x ", "12:30"])
def test_folders_of_awkward_names_are_the_folders_that_are_read(name: str, tmp_path: Path) -> None:
    for folder, images in (("photos", 1), (name, 3)):
        for number in range(images):
            (tmp_path / folder / "c").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40)).save(tmp_path / folder / "c" / f"{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        data: Any = load("pixel_jit", ["data=folder", f"data.root={name}"]).settings.data
        assert len(data.tree.images) == 3
        written = yaml.safe_dump({"base": "pixel_jit", "data": {"name": "folder", "root": name}}, allow_unicode=True)
        (tmp_path / "r.yaml").write_text(written)
        assert len(load("r.yaml").settings.data.tree.images) == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["evaluate.reference=0500"], {"images": 500}),
        (["evaluate.reference=5_000"], {"images": 5000}),
        (["evaluate.reference=a b.npz"], {"file": Path("a b.npz").absolute()}),
        (["evaluate.reference=./500"], {"folder": Path("500").absolute()}),
        (["evaluate.reference.images=500", "evaluate.reference=x"], {"images": 500, "folder": Path("x").absolute()}),
        (["evaluate.reference=x", "evaluate.reference.images=500"], {"images": 500, "folder": Path("x").absolute()}),
    ],
)
def test_the_short_forms_of_a_reference(overrides: list[str], expected: dict[str, Any]) -> None:
    reference = load("pixel_jit", overrides, data="unused").settings.evaluate.reference
    assert {key: getattr(reference, key) for key in expected} == expected
