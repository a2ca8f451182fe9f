"""Names of files and folders that systems and programs leave beside what people put there."""

from __future__ import annotations

SYSTEM_NAMES = frozenset(
    {
        "__macosx",  # zip files made on macOS
        "__pycache__",
        "icon\r",  # macOS
        "@eadir",  # Synology
        "#recycle",
        "#snapshot",
        "@recycle",  # QNAP
        "@recently-snapshot",
        "$recycle.bin",  # Windows
        "recycler",
        "system volume information",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "found.000",
        "lost+found",  # ext file systems
        "lost.dir",  # Android
    }
)


def is_system_name(name: str) -> bool:
    """Return whether a file or folder is hidden (`.ipynb_checkpoints`, `._photo.png`) or a system's own (`@eaDir`)."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES
