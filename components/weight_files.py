"""Files of weights, read without running anything in them, and without more memory than they are long."""

from __future__ import annotations

import argparse
import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .messages import first_line

LEGACY_PICKLES = 5
"""What torch.save wrote before it wrote zip files: a magic number, a version, sizes, the object, names of storages."""

MEMO = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
GROWING = frozenset({"builtins bytearray", "__builtin__ bytearray"})
"""What torch's restricted reader lets a pickle call, and what then takes as much memory as a number says."""

_REFUSED_NAME = re.compile(r"GLOBAL (\S+)")
_REFUSAL = re.compile(r"WeightsUnpickler error:\s*(.+)")


def is_safetensors(path: Path) -> bool:
    """Return whether a file begins as a safetensors file does: the length of a header, and its first bracket.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def read_safetensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of a safetensors file whose names begin with a prefix; the others are not read.

    Raises:
        ValueError: it is not there, cannot be read, or is damaged; one line that names it.
    """
    if not path.is_file() and path.exists():
        raise ValueError(f"{path} is not a regular file")
    try:
        # The library says less of a file that cannot be opened than the system does.
        with path.open("rb"), safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name: file.get_tensor(name) for name in names}
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path} is no whole safetensors file ({first_line(error)})") from None


def read_torch(path: Path) -> Any:
    """Return what torch.save wrote: tensors, containers and plain values; nothing in the file is run.

    Raises:
        ValueError: it is not there, is damaged, or holds anything else; one clause without the file's name.
    """
    if not path.is_file() and path.exists():
        raise ValueError("is not a regular file")
    try:
        archive = zipfile.is_zipfile(path)
        _look_through(path, archive=archive)
        # Namespace is an inert holder: released training checkpoints keep their arguments in one.
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None
    except Exception as error:  # A broken file can fail in any way.
        raise ValueError(_reason(error)) from None


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors by name of a file that torch.save wrote of them alone.

    Raises:
        ValueError: see `read_torch`, or it holds something else; one clause without the file's name.
    """
    values = read_torch(path)
    if not isinstance(values, Mapping) or not all(isinstance(value, Tensor) for value in values.values()):
        raise ValueError(f"holds one {type(values).__name__} of other things than weights by name")
    return {str(name): tensor for name, tensor in values.items()}


def require_modest(file: IO[bytes]) -> None:
    """Read one pickle's instructions, without following any.

    Raises:
        ValueError: it is damaged, or asks for more memory than it fills.
    """
    for number, (code, argument, _) in enumerate(pickletools.genops(file), 1):
        # Writers count the places in the memo up, and the reader makes room up to the number.
        if code.name in MEMO and isinstance(argument, int) and argument > number:
            raise ValueError("asks for more memory than it fills")
        if code.name in ("GLOBAL", "INST") and argument in GROWING:
            name = str(argument).replace(" ", ".")
            raise ValueError(f"holds '{name}', which may ask for more memory than it fills")


def require_stored(path: Path) -> None:
    """Accept a zip file as torch.save writes it, whose contents are as long as the file itself.

    Raises:
        ValueError: it is compressed.
    """
    with zipfile.ZipFile(path) as entries:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.infolist()):
            raise ValueError("is compressed, which torch.save does not do")


def require_held(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Accept tensors of a file that the file is long enough for.

    Raises:
        ValueError: they take more memory than it has bytes.
    """
    held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()}
    if sum(held.values()) > path.stat().st_size:
        raise ValueError(f"says that its tensors have {sum(held.values()):,} bytes, and has fewer itself")


def _look_through(path: Path, *, archive: bool) -> None:
    """Read the instructions of a file's pickles.

    Raises:
        ValueError: see `require_modest`.
    """
    if archive:
        require_stored(path)
        record: bytes = torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")
        require_modest(io.BytesIO(record))
        return
    with path.open("rb") as file:
        for _ in range(LEGACY_PICKLES):
            if file.peek(1):
                require_modest(file)


def _reason(error: Exception) -> str:
    refused = _REFUSED_NAME.search(str(error))
    if refused:
        return f"holds '{refused[1]}': only tensors and plain values are read from a checkpoint, and nothing is run"
    refusal = _REFUSAL.search(str(error))
    first = refusal[1] if refusal else (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"is not a checkpoint that torch.save wrote, or not with its own pickle protocol ({first[:200]})"
