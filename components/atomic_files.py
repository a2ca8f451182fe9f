"""Files that appear whole or not at all, whatever ends the process or the machine meanwhile."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

NO_FLUSH = (errno.EINVAL, errno.ENOTSUP)
"""What file systems answer that cannot flush a folder."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path` to write; when the block ends it is flushed and takes the place of `path`.

    Readers see the old content or the new one, never half of it, also after a power failure. The file's mode follows
    the umask, whichever library writes it. If the block fails, nothing of the new file is left.

    Raises:
        OSError: it cannot be written; the old content stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(3)}")
    mode = _create(beside)
    try:
        yield beside
        if stat.S_IMODE(beside.stat().st_mode) != mode:
            beside.chmod(mode)
        flush([beside])
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(beside):
            error.filename = str(path)
        raise
    flush([path.parent])


def flush(paths: Iterable[Path]) -> None:
    """Wait until files and folders are on the disk.

    Raises:
        OSError: they cannot be opened or written.
    """
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in NO_FLUSH:
                raise
        finally:
            os.close(descriptor)


def _create(path: Path) -> int:
    """Create a file and return the mode that the umask, or the folder's access list, gives it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
