"""YAML with line numbers: every value remembers the file and line it came from."""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ..backends.errors import UserError
from .scalars import Plain

MAX_BYTES = 200_000
MAX_DEPTH = 20

KeyPath = tuple[str | int, ...]

_NULL = "tag:yaml.org,2002:null"
_SCALARS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str"))
_UNSEEN = {"\u00a0": "a no-break space", "\u200b": "a zero-width space", "\u3000": "a wide space"}


class _Loader(yaml.SafeLoader):
    """The safe loader without numbers and true/false values: by which of them a text is read, its field decides."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag == _NULL]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass
class Sourced:
    """Plain values, and where each came from.

    Attributes:
        values: a mapping of text, int, float, bool, None, lists and mappings.
        places: path of a key -> `file:line`, or the command line.
        complete: whether every value is there, those that nobody has set among them.
        notes: what was decided while layers were put together, for whoever runs the recipe.
        folder: where the files lie that are named beside it.
    """

    values: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)
    complete: bool = False
    notes: tuple[str, ...] = ()
    folder: Path = Path()

    def place(self, path: KeyPath) -> str:
        """Return where a key, or the nearest one around it, was written."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return ""


def read_yaml(path: Path, shown: str, known: Collection[str] = ()) -> Sourced:
    """Read a recipe file; `shown` is what messages call it.

    Args:
        known: keys of which a file has one at least, or it is something else, of which nothing is repeated.

    Raises:
        UserError: unreadable, too large, not YAML, not a mapping, a key twice, an alias, or nested too deep.
    """
    text = _text(path, shown)
    node = _compose(text, shown)
    sourced = Sourced({}, {(): f"{shown}:1"}, folder=path.parent)
    if node is None:
        return sourced
    if not isinstance(node, MappingNode):
        raise UserError(f"{shown}:1: a recipe is a mapping of keys to values{_unseen(text)}")
    if known and node.value and not any(key.value in known for key, _ in node.value if isinstance(key, ScalarNode)):
        raise UserError(f"{shown}:1: this is no recipe: it has none of the keys of one ({', '.join(known)})")
    sourced.values = _Builder(shown, sourced.places).mapping(node, ())
    return sourced


def _text(path: Path, shown: str) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{shown}: is no file; a recipe is a YAML file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"{shown}: larger than {MAX_BYTES:,} bytes; a recipe is a short text")
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{shown}: cannot be read: {reason}") from None


def parse_flow(text: str, places: dict[KeyPath, str], shown: str) -> Any:
    """Read a list or mapping of the command line, written `[a, b]` or `{key: value}`.

    Raises:
        UserError: it is none, has a key twice, or is nested too deep.
    """
    node = _compose(text, shown, located=False)
    return _Builder(shown, places, numbered=False).value(node, ()) if node is not None else None


def _compose(text: str, shown: str, *, located: bool = True) -> Node | None:
    def at(line: int) -> str:
        return f"{shown}:{line}" if located else shown

    try:
        _require_shallow(text, at)
        node: Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{at(line)}: not YAML: {_reason(error)}{_unseen(text)}") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise UserError(f"{at(1)}: not YAML: it has control characters") from None
    return node


def _require_shallow(text: str, at: Callable[[int], str]) -> None:
    """Read no further than the first place that is nested too deep, or has a name: composing takes ever longer."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if getattr(event, "anchor", None) is not None:
            raise UserError(
                f"{at(line)}: anchors and aliases are not used in recipes; 'base:' shares "
                "settings, and text that begins with & or * is quoted"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise UserError(f"{at(line)}: nested deeper than {MAX_DEPTH} levels")


def _reason(error: yaml.MarkedYAMLError) -> str:
    """Return what is wrong; of a file that may be no recipe, no more than a character is repeated."""
    problem = str(error.problem or error.context or "")
    quoted = problem.split("'")
    return "".join(
        part if number % 2 == 0 else f"'{part}'" if len(part) <= 2 or part.startswith("<") else "'...'"
        for number, part in enumerate(quoted)
    )


def _unseen(text: str) -> str:
    """Return the line of the first character that looks like a space and is none, as the end of a message."""
    for number, line in enumerate(text.splitlines(), start=1):
        for character, name in _UNSEEN.items():
            if character in line:
                return f" (line {number} has {name})"
    return ""


class _Builder:
    """Turns nodes into values and notes their lines."""

    def __init__(self, shown: str, places: dict[KeyPath, str], *, numbered: bool = True) -> None:
        self.shown, self.places, self.numbered = shown, places, numbered

    def value(self, node: Node, path: KeyPath) -> Any:
        self.places[path] = self._line(node)
        if isinstance(node, MappingNode):
            return self.mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise UserError(f"{self._line(key_node)}: a key must be a plain name")
            key = key_node.value
            if key == "<<":
                raise UserError(f"{self._line(key_node)}: '<<' is not used in recipes; 'base:' shares settings")
            if key in values:
                raise UserError(f"{self._line(key_node)}: {'.'.join(map(str, (*path, key)))}: the key is there twice")
            values[key] = self.value(value_node, (*path, key))
            self.places[(*path, key)] = self._line(key_node)
        return values

    def _scalar(self, node: Node) -> Any:
        if node.tag not in _SCALARS:
            raise UserError(f"{self._line(node)}: tags are not used in recipes; text that begins with ! is quoted")
        if node.tag == _NULL:
            return None
        plain = isinstance(node, ScalarNode) and node.style is None
        return Plain(node.value) if plain else node.value

    def _line(self, node: Node) -> str:
        return f"{self.shown}:{node.start_mark.line + 1}" if self.numbered else self.shown
