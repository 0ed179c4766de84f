"""The bundles that this user has exported on this machine: their code came from the own store, so they need no other trust.

A list of digests below the user's state folder. A bundle's ``SHA256SUMS`` names every file's checksum, and so the digest of that
file names the content, wherever the bundle is moved to; one that was changed, or came from elsewhere, is not on the list.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from autoopt.bundle.manifest import SUMS

_OTHERS_WRITE = 0o022


def remember(bundle: Path) -> None:
    """Put a bundle, just written, on the list; where that cannot be kept, loading will ask for trust."""
    with contextlib.suppress(OSError):
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / _digest(bundle)).touch()


def is_own(bundle: Path) -> bool:
    """Whether the bundle, whose checksums are right, is on the list."""
    try:
        folder = _folder()
        found = folder.stat()
        if found.st_uid != os.getuid() or found.st_mode & _OTHERS_WRITE:
            return False  # somebody else may have written it
        return (folder / _digest(bundle)).is_file()
    except OSError:
        return False


def _folder() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "autoopt" / "exported"


def _digest(bundle: Path) -> str:
    return hashlib.sha256((bundle / SUMS).read_bytes()).hexdigest()
