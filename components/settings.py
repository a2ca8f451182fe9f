"""The base of every validated configuration: strict about keys, exact about what is wrong."""

from __future__ import annotations

import types
import typing
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from .synonyms import SYNONYMS
from .user_cache import expanded


def near_name(name: str, names: typing.Iterable[str], most: int = 1) -> str:
    """Return ``", did you mean 'x'?"`` for the closest of `names`, at most so many, or an empty string.

    What is known by another name elsewhere, or differs in capitals alone, is nearer than what is spelt alike.
    """
    known = {each.lower(): each for each in names}
    wanted = name.lower().replace("-", "_")
    same = [known[each] for each in (wanted, *SYNONYMS.get(wanted, ())) if each in known]
    spelt_alike = get_close_matches(name.lower(), list(known), n=most, cutoff=0.6)
    near = [f"'{each}'" for each in same[:1] or map(known.__getitem__, spelt_alike)]
    if len(near) > 1:
        near = [", ".join(near[:-1]) + f" or {near[-1]}"]
    return f", did you mean {near[0]}?" if near else ""


class Settings(BaseModel):
    """A frozen configuration that refuses unknown keys and says which key was probably meant.

    Subclasses are importable without torch, so that listing, showing and checking stay instant.
    The class variables `kind` and `name` are set by the registry.

    Attributes:
        part_specific: fields that a recipe sets for this part alone: with another part in its place, they are not
            kept (see `recipes/combining.py`).
    """

    # Validators are made when first used: a look at the parts needs none, and a recipe needs few of them.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True, defer_build=True)

    kind: ClassVar[str] = ""
    name: ClassVar[str] = ""
    part_specific: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def in_full(cls, value: object) -> object:
        """Return what a value is short for, where a section may be written as one value."""
        return value

    def anchored(self) -> Self:
        """Return the same with its paths made absolute, so that they mean the same from every working directory."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        changed = {name: absolute for name, value in values.items() if (absolute := _absolute(value)) != value}
        return self.model_copy(update=changed) if changed else self

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_not_booleans(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and info.field_name and _wants_number(cls.model_fields[info.field_name].annotation):
            raise PydanticCustomError("number_type", "a number is needed, not a true/false value")
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _suggest_keys(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(cls.in_full(values))
        except ValidationError as error:
            raise ValidationError.from_exception_data(error.title, [_explain(e, cls) for e in error.errors()]) from None

    @model_serializer(mode="wrap")
    def _name_first(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        return {"name": self.name, **values} if self.name else values


def _absolute(value: Any) -> Any:
    if isinstance(value, Path):
        return expanded(value).absolute()
    if isinstance(value, Settings):
        return value.anchored()
    return [_absolute(each) for each in value] if isinstance(value, list) else value


def _wants_number(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = typing.get_args(annotation)
        return bool not in options and any(_wants_number(option) for option in options)
    return annotation in (int, float)


def _explain(error: Any, settings: type[Settings]) -> InitErrorDetails:
    message = error["msg"]
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        message = "unknown key" + near_name(str(error["loc"][0]), settings.model_fields)
    elif error["type"] == "missing":
        message = "missing, it has no default"
    escaped = message.removeprefix("Value error, ").replace("{", "{{").replace("}", "}}")
    return InitErrorDetails(
        type=PydanticCustomError("explained", escaped), loc=tuple(error["loc"]), input=error["input"]
    )
