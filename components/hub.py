"""Files from the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .messages import first_line


def fetch(repository: str, file: str) -> Path:
    """Return a file of a repository: what is in the local cache as it is there, and only what is not from the hub.

    A machine without a connection does not wait for one, and a run does not change with what is published since.
    Removed from the cache, a file is fetched again by the next call.

    Raises:
        ValueError: it is in neither; the message is one line.
    """
    # Loaded here, so that a recipe that stays off the hub never waits for it.
    from huggingface_hub import hf_hub_download  # noqa: PLC0415
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        try:
            return Path(hf_hub_download(repository, file, local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(hf_hub_download(repository, file))
    except (OSError, HFValidationError) as error:
        raise ValueError(
            f"{file} of {repository} is not here and cannot be fetched from the hub ({first_line(error)})"
        ) from None


@contextmanager
def local_files_only() -> Iterator[None]:
    """Keep everything inside off the hub: what is not in its cache cannot be fetched."""
    from huggingface_hub import constants  # noqa: PLC0415

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
