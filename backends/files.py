"""Text and JSON files of runs: written atomically, and read so that every kind of damage is one clear error."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, InstanceOf, ValidationError

from ..components.atomic_files import replacing
from ..components.messages import first_line
from .errors import UserError

Text = InstanceOf[str]
"""Any text. A plain `str` would refuse the names of files that are not UTF-8, which JSON can hold."""


class UnreadableFile(UserError):  # noqa: N818
    """A file that is missing, damaged, or of another kind than expected: one line with its path."""


class MissingFile(UnreadableFile):
    """A file that is not there."""


class Shape(BaseModel):
    """What a JSON file has to contain at least. It is compared with a file, which may contain more."""

    model_config = ConfigDict(extra="allow", strict=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace a text file in one step: readers see the old text or the new, never half of it.

    Names of files that are not UTF-8 are written with escapes.

    Raises:
        OSError: it cannot be written; the old text stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_bytes(text.encode("utf-8", "backslashreplace"))


def json_text(value: Any) -> str:
    """Return a value as indented JSON; NaN and infinity are refused."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; NaN and infinity are refused."""
    write_atomically(path, json_text(value))


def short_digest(value: Any) -> str:
    """Return six hex digits that tell JSON values apart in names of files and folders."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=3).hexdigest()


@contextmanager
def regular_file(path: Path) -> Iterator[None]:
    """Read a regular file within the block.

    Raises:
        MissingFile: it is not there.
        UnreadableFile: it cannot be read, or is a folder, a pipe or a device.
    """
    try:
        # A pipe without a writer would be waited for.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableFile(f"{path}: is not a regular file")
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFile(f"{path}: is missing") from None
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read: {error.strerror or first_line(error)}") from None


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        MissingFile: it is not there.
        UnreadableFile: it cannot be read, or is a folder, a pipe or a device.
    """
    with regular_file(path):
        return path.read_bytes()


def read_text(path: Path) -> str:
    """Return a text file.

    Raises:
        UnreadableFile: it cannot be read, or is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"{path}: damaged (not UTF-8 at byte {error.start})") from None


def read_json(path: Path, shape: type[Shape]) -> dict[str, Any]:
    """Return a JSON object as it was written.

    Args:
        shape: what it has to contain.

    Raises:
        UnreadableFile: it cannot be read, is no JSON, or lacks something of its shape.
    """
    content = read_bytes(path)
    try:
        return json_object(content, shape)
    except ValueError as error:
        raise UnreadableFile(f"{path}: damaged ({str(error)[:150]})") from None


@dataclass(frozen=True)
class JsonLines:
    """A file of one JSON object a line.

    Attributes:
        objects: those that could be read, in order.
        damaged: the first complete line, counted from 1, that is none; 0: all are.
    """

    objects: list[dict[str, Any]]
    damaged: int = 0


def read_json_lines(path: Path, shape: type[Shape]) -> JsonLines:
    """Return the objects of a file that is appended to. A last line that was cut off is left out.

    Args:
        shape: what each line has to contain.

    Raises:
        UnreadableFile: the file cannot be read.
    """
    lines = read_bytes(path).split(b"\n")
    objects, damaged = [], 0
    for number, line in enumerate(lines, start=1):
        try:
            objects.append(json_object(line, shape))
        except ValueError:
            complete = number < len(lines)
            damaged = damaged or number * complete
    return JsonLines(objects, damaged)


def json_object(content: bytes | str, shape: type[Shape]) -> dict[str, Any]:
    """Return a JSON object as it was written.

    Raises:
        ValueError: it is no JSON, or lacks something of its shape; says what in one line.
    """
    try:
        value: Any = json.loads(content, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    try:
        shape.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(": ".join(part for part in (place, first["msg"].lower()) if part)) from None
    found: dict[str, Any] = value
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
