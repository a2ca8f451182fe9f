from __future__ import annotations

import inspect

import pytest
from pydantic import Field, ValidationError

from latsem.components.registry import KINDS, Part, _parts, available, create, parse, register
from latsem.components.settings import Settings

PARTS = [part for kind in KINDS for part in available(kind).values()]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.kind}-{part.name}")
def test_every_part_is_documented_and_its_settings_never_shadow_what_it_is_handed(part: Part) -> None:
    assert part.summary.endswith(".") and len(part.summary) > 20
    handed = set(inspect.signature(part.target()).parameters) - {"settings"}
    assert not handed & set(part.settings.model_fields)


def test_every_kind_has_a_part() -> None:
    assert all(available(kind) for kind in KINDS)


def test_a_wrong_name_lists_the_near_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown projection 'coevolvin', did you mean 'coevolving'\?"):
        create("projection", "coevolvin", features=8)
    with pytest.raises(ValueError, match="did you mean 'projection'"):
        available("projektion")


def test_create_tells_settings_from_what_is_handed_over() -> None:
    projection = create("projection", "coevolving", channels=4, features=96)
    assert projection.channels == 4 and projection.features == 96
    with pytest.raises(ValueError, match="takes no 'chanels', did you mean 'channels'"):
        create("projection", "coevolving", chanels=4, features=96)
    with pytest.raises(ValidationError):
        create("projection", "coevolving", channels=0, features=96)


def test_a_plug_in_is_a_part_like_any_other() -> None:
    class Mine:
        def __init__(self, settings: Settings) -> None:
            self.settings = settings

    try:

        @register("sampler", "mine", builds=Mine)
        class MineSettings(Settings):
            """A sampler of somebody's own."""

            steps: int = Field(3, ge=1)

        assert isinstance(create("sampler", "mine", steps=5), Mine)
        assert parse("sampler", {"name": "mine", "steps": 7}) == MineSettings(steps=7)
        with pytest.raises(ValueError, match="registered already"):
            register("sampler", "mine", builds=Mine)(Settings)
    finally:
        _parts["sampler"].pop("mine", None)


def test_settings_dump_their_name_first_and_come_back() -> None:
    settings = parse("guidance", {"name": "cfg", "scale": 3})
    dumped = settings.model_dump(mode="json")
    assert next(iter(dumped.items())) == ("name", "cfg")
    assert parse("guidance", dumped) == settings


def test_a_boolean_is_not_a_number() -> None:
    with pytest.raises(ValidationError, match="a number is needed"):
        parse("sampler", {"name": "euler", "steps": True})
