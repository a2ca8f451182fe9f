"""Plug-ins: Python files with parts of somebody's own, which a recipe names and nothing else makes run."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backends.command_line import command, plugin_words
from ..backends.errors import UserError
from ..backends.run_folder import PLUGINS
from ..components.user_cache import NoHome, expanded
from .layers import COMMAND_LINE, command_line
from .scalars import Plain
from .yaml_reader import Sourced, parse_flow

KEY = "plugins"


@dataclass(frozen=True)
class Plugin:
    """A file that was run, and what it held then."""

    file: Path
    text: str

    @property
    def sha256(self) -> str:
        """Digest of its text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def values(self) -> dict[str, str]:
        """Return it as a recipe names it."""
        return {"file": str(self.file), "sha256": self.sha256}


def run_plugins(layers: Iterable[Sequence[Sourced]]) -> tuple[Plugin, ...]:
    """Run the plug-ins that layers name, each beside the file that names it, and note all of them in each layer.

    A plug-in of a base is needed by what the base says, whatever is named above it: all layers' plug-ins are run.

    Raises:
        UserError: a file that is not there, is not what it is said to be, or fails.
    """
    found: dict[Path, Plugin] = {}
    for layer in layers:
        for sourced in layer:
            if KEY not in sourced.values:
                continue
            named = _named(sourced)
            if named is None:
                continue  # the schema will say so
            for each in named:
                plugin = _run(_located(sourced.folder, each["file"]), each.get("sha256"), sourced.place((KEY,)))
                found[plugin.file] = plugin
            sourced.values[KEY] = [plugin.values() for plugin in found.values()]
    return tuple(found.values())


def _named(sourced: Sourced) -> list[dict[str, Any]] | None:
    """Return the plug-ins of one layer as mappings, None if they are something else."""
    value = sourced.values[KEY]
    if isinstance(value, Plain):
        value = parse_flow(value, {}, f"{sourced.place((KEY,))}: {KEY}") if value.startswith("[") else [value or None]
    if not isinstance(value, list | None):
        return None
    entries = [{"file": each} if isinstance(each, str) else each for each in value or () if each is not None]
    return entries if all(_is_plugin(each) for each in entries) else None


def _is_plugin(value: object) -> bool:
    return isinstance(value, Mapping) and value.keys() <= {"file", "sha256"} and isinstance(value.get("file"), str)


def _located(folder: Path, name: str) -> Path:
    try:
        return (folder / expanded(name)).resolve()
    except NoHome as error:
        raise UserError(f"{KEY}: {error}") from None


def _run(path: Path, sha256: str | None, place: str) -> Plugin:
    """Run a file, unless this process has run it already.

    Raises:
        UserError: it is not there, not what it should be, or fails.
    """
    where = f"{place}: {KEY}: {path}" if place else f"{KEY}: {path}"
    spec = importlib.util.spec_from_file_location(f"latsem_plugin_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"{where}: there is no Python file of that name")
    try:
        plugin = Plugin(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: cannot be read ({error})") from None
    if sha256 is not None and sha256 != plugin.sha256:
        raise UserError(f"{where}: was edited: its SHA-256 begins with {plugin.sha256[:8]}, not {sha256[:8]}")
    if getattr(sys.modules.get(spec.name), "__plugin__", None) == plugin:
        return plugin
    sys.stderr.write(f"running plug-in {path}\n")
    module = importlib.util.module_from_spec(spec)
    vars(module)["__plugin__"] = plugin
    sys.modules[spec.name] = module
    try:
        exec(compile(plugin.text, str(path), "exec"), vars(module))  # noqa: S102 - what a plug-in is; no stale bytecode
    except Exception as error:
        del sys.modules[spec.name]
        raise UserError(f"{where}: {type(error).__name__}: {error}") from error
    return plugin


def is_plugins(word: str) -> bool:
    """Return whether an argument of the command line names plug-ins."""
    return word.startswith(f"{KEY}=")


def load_plugins(words: Sequence[str]) -> tuple[Plugin, ...]:
    """Run the plug-ins of `plugins=[FILE, ...]`, where no recipe names them.

    Raises:
        UserError: something else than plug-ins, or one that cannot be run.
    """
    others = [word for word in words if not is_plugins(word)]
    if others:
        raise UserError(f"{COMMAND_LINE}: '{others[0]}': does nothing here; only {KEY}=[FILE] does")
    return run_plugins([command_line(words)])


def stored_names(plugins: Sequence[Plugin]) -> dict[str, Plugin]:
    """Return plug-ins by the paths below a run folder that their texts are stored under."""
    names: dict[str, Plugin] = {}
    for plugin in plugins:
        name = f"{PLUGINS}/{plugin.file.name}"
        names[f"{PLUGINS}/{plugin.file.stem}-{plugin.sha256[:8]}.py" if name in names else name] = plugin
    return names


def require_same(run: Path, values: Mapping[str, Any], plugins: Sequence[Plugin]) -> None:
    """Check that the plug-ins of a run are among those that were named for it.

    Raises:
        UserError: one is not, or was edited since.
    """
    there = {plugin.sha256: plugin for plugin in plugins}
    for each in values.get(KEY) or ():
        sha256 = each.get("sha256") if isinstance(each, Mapping) else None
        if sha256 is None or sha256 in there:
            continue
        stored = run / PLUGINS / Path(each["file"]).name
        edited = [plugin for plugin in plugins if plugin.file.name == stored.name]
        what = f"{edited[0].file} was edited since" if edited else f"{stored.name} is missing among the plug-ins"
        words = plugin_words({KEY: [stored]})
        raise UserError(f"{run}: {what}; what the run was trained with is kept beside it: {command(*words)}")
