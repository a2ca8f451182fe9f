"""YAML with line numbers: every value remembers the file and line it came from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ..backends.errors import UserError

MAX_BYTES = 1_000_000
MAX_DEPTH = 20

KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """The safe loader with the numbers and booleans of YAML 1.2: `1e-4` is a number, `no` and `on` are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:\d[\d_]*\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


@dataclass
class Sourced:
    """Plain values, and where each came from.

    Attributes:
        values: a mapping of str, int, float, bool, None, lists and mappings.
        places: path of a key -> `file:line`, or the command line.
    """

    values: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Return where a key, or the nearest one around it, was written."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return ""


def read_yaml(path: Path, shown: str) -> Sourced:
    """Read a recipe file; `shown` is what messages call it.

    Raises:
        UserError: unreadable, too large, not YAML, not a mapping, a key twice, an alias, or nested too deep.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{shown}: larger than {MAX_BYTES:,} bytes; a recipe is a short text")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{shown}: cannot be read: {reason}") from None
    node = _compose(text, shown)
    if node is None:
        return Sourced({}, {(): f"{shown}:1"})
    if not isinstance(node, MappingNode):
        raise UserError(f"{shown}:1: a recipe is a mapping of keys to values")
    sourced = Sourced({}, {(): f"{shown}:1"})
    sourced.values = _Builder(shown, sourced.places).mapping(node, ())
    return sourced


def parse_value(text: str) -> Any:
    """Read one value of the command line as YAML; what is not valid YAML is text.

    Raises:
        UserError: a mapping with a key twice, or nested too deep.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError:
        return text
    return text if node is None else _Builder("command line", {}).value(node, ())


def _compose(text: str, shown: str) -> Node | None:
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader)):
            raise UserError(f"{shown}: anchors and aliases are not used in recipes; 'base:' shares settings")
        node: Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{shown}:{line}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{shown}:1: not YAML: {str(error).splitlines()[0]}") from None
    return node


class _Builder:
    """Turns nodes into values and notes their lines."""

    def __init__(self, shown: str, places: dict[KeyPath, str]) -> None:
        self.shown, self.places = shown, places
        self.loader = _Loader("")

    def value(self, node: Node, path: KeyPath) -> Any:
        if len(path) > MAX_DEPTH:
            raise UserError(f"{self._line(node)}: nested deeper than {MAX_DEPTH} levels")
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
            if key in values:
                raise UserError(f"{self._line(key_node)}: {'.'.join(map(str, (*path, key)))}: the key is there twice")
            values[key] = self.value(value_node, (*path, key))
            self.places[(*path, key)] = self._line(key_node)
        return values

    def _scalar(self, node: Node) -> Any:
        if node.tag not in {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str")}:
            # Dates and the like are text here; an explicit tag such as !!python is refused.
            if node.tag == "tag:yaml.org,2002:timestamp":
                return node.value
            raise UserError(f"{self._line(node)}: the tag {node.tag} is not used in recipes")
        try:
            return self.loader.construct_object(node)
        except (ValueError, OverflowError):
            raise UserError(f"{self._line(node)}: '{node.value}' is not a usable value") from None

    def _line(self, node: Node) -> str:
        return f"{self.shown}:{node.start_mark.line + 1}"
