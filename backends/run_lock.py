"""Who may write into a run folder, and whether it is still the folder that was locked."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import RunFailed, UserError
from .files import MissingFile, UnreadableFile, read_text, write_atomically

LOCK, HOLDER = ".lock", ".holder"


class RunLock:
    """The lock of a run folder. It goes with the process that holds it, however that ends.

    A folder that is removed takes its lock along, and another process may then lock a new folder of the same name. So
    the holder leaves a name of its own beside the lock, which is new each time, and compares it before it writes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._name = ""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock; the folder is made if it is not there.

        Raises:
            UserError: another process holds it.
        """
        from filelock import FileLock, Timeout  # noqa: PLC0415 - kept off the path to `list` and `show`

        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.folder}: another process is training this run; wait for it, or train another with --name"
            ) from None
        try:
            self._name = secrets.token_hex(16)
            write_atomically(self._holder, self._name)
            yield
        finally:
            if self._is_ours():
                with contextlib.suppress(OSError):
                    self._holder.unlink()
            self._name = ""
            lock.release()

    def require(self) -> None:
        """Check, where this process holds the lock, that the folder is still the one that it locked.

        Raises:
            RunFailed: it was removed, or another process has taken a new one of its name.
        """
        if self._name and not self._is_ours():
            taken = "was replaced by that of another run" if self._holder.exists() else "was removed or renamed"
            raise RunFailed(f"{self.folder}: the run folder {taken} during training; nothing more is written there")

    @property
    def _holder(self) -> Path:
        return self.folder / HOLDER

    def _is_ours(self) -> bool:
        try:
            return read_text(self._holder) == self._name
        except MissingFile:
            return False
        except UnreadableFile:
            # Whatever is wrong with the disk, the write itself will tell.
            return True
