"""Files from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from .messages import first_line


def fetch(repository: str, file: str) -> Path:
    """Return a file of a repository, from the local cache or the hub.

    Raises:
        ValueError: it is in neither; the message is one line.
    """
    # Loaded here, so that a recipe that stays off the hub never waits for it.
    from huggingface_hub import hf_hub_download  # noqa: PLC0415
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415

    try:
        return Path(hf_hub_download(repository, file))
    except (OSError, HFValidationError) as error:
        raise ValueError(unfetched(repository, file, error)) from None


def unfetched(repository: str, file: str, error: Exception) -> str:
    """Return the line for a file that could not be fetched."""
    return f"{file} of {repository} is not here and cannot be fetched from the hub ({first_line(error)})"
