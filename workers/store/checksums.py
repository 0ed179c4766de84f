"""What a folder of the store must hold, file by file, so that damage is noticed when it is read."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

NAME = ".checksums.json"


def write(folder: Path) -> dict[str, str]:
    """Record the SHA-256 of every file, and put all of it on the disk (fsync) before the folder is published.

    Returns:
        Each file's, by its path in the folder.
    """
    sums = {str(path.relative_to(folder)): _sha256(path) for path in _files(folder)}
    (folder / NAME).write_text(json.dumps({"sha256": sums}, indent=1, sort_keys=True))
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)
    return sums


def read(folder: Path) -> dict[str, str] | None:
    """What was recorded when the folder was published; None where that is missing or unreadable."""
    try:
        return dict(json.loads((folder / NAME).read_text())["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def problem(folder: Path) -> str | None:
    """What is wrong with a published folder, in words; None where all is as it was published."""
    expected = read(folder)
    if expected is None:
        return f"{NAME} is missing or unreadable"
    for name, recorded in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _sha256(path) != recorded:
            return f"{name} is not what was published ({path.stat().st_size} bytes)"
    return None


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut."""
    _sync(folder)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
