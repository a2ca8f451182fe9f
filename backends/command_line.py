"""Command lines that are printed: as they can be pasted into a shell."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .shown import relative

_UNQUOTED = re.compile(r"[\w./~@+-]+")
"""Text that a list of the command line takes as it is."""


def command(*words: object) -> str:
    """Return a command in one line; words that a shell would take apart are quoted."""
    return shlex.join(map(str, words))


def plugin_words(recipe: Mapping[str, Any]) -> list[str]:
    """Return `plugins=[FILE, ...]` as a run's command needs it, nothing for a recipe without plug-ins."""
    files = [Path(each["file"] if isinstance(each, Mapping) else each) for each in recipe.get("plugins") or ()]
    return [f"plugins=[{', '.join(map(_list_item, files))}]"] if files else []


def _list_item(path: Path) -> str:
    text = relative(path)
    return text if _UNQUOTED.fullmatch(text) else json.dumps(text, ensure_ascii=False)
