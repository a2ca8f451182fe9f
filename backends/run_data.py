"""The data and the frozen networks of a run: noted when it begins, compared whenever it is continued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from ..components.data.record import SourceRecord, shown_classes
from ..components.data.source import Source
from .caching.digests import weights_digest
from .checkpointing.store import checkpoints, step_of
from .command_line import command
from .errors import UserError
from .files import Shape, Text, UnreadableFile, read_json, write_json
from .run_folder import RunFolder
from .space import Space

FORMAT = 1


@dataclass(frozen=True)
class _Kept:
    """What the file holds.

    Attributes:
        networks: digests of the frozen networks; empty where none were noted.
    """

    record: SourceRecord
    networks: dict[str, str]
    changes: list[dict[str, Any]]


def read_record(folder: RunFolder) -> SourceRecord | None:
    """Return what the data of a run were, None if the run is older than such records.

    Raises:
        UserError: the record is damaged.
    """
    found = _read(folder)
    return None if found is None else found.record


def class_names(folder: RunFolder) -> tuple[str, ...]:
    """Return the names of the classes that a run was trained on; empty if there are none, or they are not known."""
    try:
        record = read_record(folder)
    except UserError:
        return ()
    return () if record is None else record.classes


class RunData:
    """Compares the data of a run, and the weights of its frozen networks, with those it began with.

    Attributes:
        changes: steps at which a change of the data was accepted, and what had changed.
    """

    def __init__(self, folder: RunFolder, source: Source, space: Space) -> None:
        self.folder, self.source, self.space = folder, source, space
        self.changes: list[dict[str, Any]] = []
        self._kept: _Kept | None = None
        self._record: SourceRecord | None = None

    @cached_property
    def networks(self) -> dict[str, str]:
        """Digests of the frozen networks, by name."""
        found = {"tokenizer": self.space.tokenizer, "encoder": self.space.encoder}
        return {name: weights_digest(network) for name, network in found.items() if network is not None}

    def compare(self, *, accept: bool, warn: Callable[[str], None]) -> None:
        """Compare the data with the record of a run that is there, once; nothing is written.

        Args:
            accept: whether other data are accepted; they may not have another number of classes.
            warn: is told what differs and was accepted, or that there is no record.

        Raises:
            UserError: the data are others, or the record is damaged.
        """
        if self._record is not None or not self.folder.resolved.is_file():
            return
        found = _read(self.folder, damaged_is_none=accept)
        if found is None:
            warn(f"{self.folder.path}: has no record of the data that it began with; today's are recorded")
            self._record = SourceRecord.of(self.source)
            return
        self._kept, self.changes = found, found.changes
        differing, record = found.record.compare(self.source)
        before = found.networks or self.networks
        differing += [f"weights of the {name}" for name, digest in self.networks.items() if before.get(name) != digest]
        if not differing:
            self._record = record
            return
        self._refuse(differing, accept=accept)
        warn(f"data or networks are not those that this run began with, and are accepted: {'; '.join(differing)}")
        self.changes = [*self.changes, {"step": self._step(), "differences": differing}]
        self._record = SourceRecord.of(self.source)

    def note(self) -> None:
        """Write the record, unless it is there as it should be; only for the process that holds the run."""
        record = self._record or SourceRecord.of(self.source)
        kept = _Kept(record, self.networks, self.changes)
        if kept != self._kept:
            values = {"format": FORMAT, **record.to_json(), "networks": self.networks, "changes": self.changes}
            write_json(self.folder.data, values)
            self._kept, self._record = kept, record

    def compare_classes(self, trained: RunFolder, warn: Callable[[str], None]) -> None:
        """Compare the classes with those of a run whose weights are started from.

        Args:
            warn: is told of classes of other names.

        Raises:
            UserError: their number is another, so that the weights do not fit.
        """
        record, classes = read_record(trained), tuple(self.source.class_names)
        if record is None or record.classes == classes:
            return
        before, now = shown_classes(record.classes), shown_classes(classes)
        if len(record.classes) == len(classes):
            warn(f"the weights of {trained.path} were trained on other classes ({before}) than these data have ({now})")
            return
        raise UserError(
            f"{trained.path}: these weights belong to a model of {len(record.classes)} classes ({before}), and the "
            f"data have {len(classes)} ({now}): start from a run of as many classes"
        )

    def _refuse(self, differing: list[str], *, accept: bool) -> None:
        what, path = "; ".join(differing), self.folder.path
        if not accept:
            raise UserError(
                f"{path}: data or networks are not those that this run began with ({what}): restore them, train a new "
                f"run with --name, or accept them with '{_accepting(path)}'"
            )
        assert self._kept is not None
        classes = len(self._kept.record.classes), len(self.source.class_names)
        if classes[0] != classes[1]:
            raise UserError(
                f"{path}: --accept-data: the network was built for {classes[0]} classes and the data have {classes[1]} "
                f"({what}): train a new run with --name"
            )

    def _step(self) -> int:
        found = checkpoints(self.folder)
        return step_of(found[-1]) if found else 0


class _DataShape(Shape):
    format: int
    networks: dict[str, str] = Field(default_factory=dict)
    changes: list[dict[Text, Any]]


def _read(folder: RunFolder, *, damaged_is_none: bool = False) -> _Kept | None:
    if not folder.data.exists():
        return None
    try:
        values = read_json(folder.data, _DataShape)
        written, networks, changes = values.pop("format"), values.pop("networks", {}), values.pop("changes")
        if written == FORMAT:
            return _Kept(SourceRecord.from_json(values), networks, changes)
        problem = f"{folder.data}: of format {written}, not {FORMAT}"
    except (UnreadableFile, ValueError) as error:
        problem = str(error) if isinstance(error, UnreadableFile) else f"{folder.data}: damaged ({error})"
    if damaged_is_none:
        return None
    raise UserError(f"{problem}: '{_accepting(folder.path)}' writes it anew, for today's data")


def _accepting(run: Path) -> str:
    """Return the command that resumes a run on other data."""
    return command("latsem", "run", "--resume", run, "--accept-data")
