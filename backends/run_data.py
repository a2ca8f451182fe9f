"""The data of a run: noted when it begins, compared whenever it is continued."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..components.data.record import SourceRecord, shown_classes
from ..components.data.source import Source
from .checkpointing.store import checkpoints, step_of
from .errors import UserError
from .files import write_json
from .run_folder import RunFolder

FORMAT = 1


def read_record(folder: RunFolder) -> SourceRecord | None:
    """Return what the data of a run were, None if the run is older than such records.

    Raises:
        UserError: the record is damaged.
    """
    found = _read(folder)
    return None if found is None else found[0]


def class_names(folder: RunFolder) -> tuple[str, ...]:
    """Return the names of the classes that a run was trained on; empty if there are none, or they are not known."""
    try:
        record = read_record(folder)
    except UserError:
        return ()
    return () if record is None else record.classes


class RunData:
    """Compares the data of a run with those it began with.

    Attributes:
        changes: steps at which a change of the data was accepted, and what had changed.
    """

    def __init__(self, folder: RunFolder, source: Source) -> None:
        self.folder, self.source = folder, source
        self.changes: list[dict[str, Any]] = []
        self._kept: SourceRecord | None = None
        self._record: SourceRecord | None = None

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
        self._kept, self.changes = found
        differing, record = self._kept.compare(self.source)
        if not differing:
            self._record = record
            return
        self._refuse(differing, accept=accept)
        warn(f"the data have changed since this run began, and are accepted: {'; '.join(differing)}")
        self.changes = [*self.changes, {"step": self._step(), "differences": differing}]
        self._record = SourceRecord.of(self.source)

    def note(self) -> None:
        """Write the record, unless it is there as it should be; only for the process that holds the run."""
        record = self._record or SourceRecord.of(self.source)
        if record != self._kept or self.changes:
            write_json(self.folder.data, {"format": FORMAT, **record.to_json(), "changes": self.changes})
            self._kept = self._record = record

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
                f"{path}: the data have changed since this run began ({what}): restore them, train a new run with "
                f"--name, or accept them with 'latsem run --resume {path} --accept-data'"
            )
        assert self._kept is not None
        classes = len(self._kept.classes), len(self.source.class_names)
        if classes[0] != classes[1]:
            raise UserError(
                f"{path}: --accept-data: the network was built for {classes[0]} classes and the data have {classes[1]} "
                f"({what}): train a new run with --name"
            )

    def _step(self) -> int:
        found = checkpoints(self.folder)
        return step_of(found[-1]) if found else 0


def _read(folder: RunFolder, *, damaged_is_none: bool = False) -> tuple[SourceRecord, list[dict[str, Any]]] | None:
    if not folder.data.is_file():
        return None
    try:
        values = json.loads(folder.data.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise UserError(f"{folder.data}: written by another version of latsem, which has to resume this run")
        changes = list(values.pop("changes"))
        return SourceRecord.from_json(values), changes
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if damaged_is_none:
            return None
        raise UserError(
            f"{folder.data}: damaged ({error}): 'latsem run --resume {folder.path} --accept-data' writes it anew, for "
            "today's data"
        ) from None
