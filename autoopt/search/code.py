"""The user's code on every node of a cluster, always under the same path.

It travels as the runtime environment of the job's Ray job, which Ray unpacks below a folder of its session: another one after
the cluster was restarted. But what is pickled names a task's file by its path, and lies in the store for longer than that. So each
process that needs the code first makes a link to where Ray has put it, of a name that follows from its content.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from uuid import uuid4

from autoopt.errors import JobError


def place_of(package: str, user: int) -> Path:
    """Where the code of a package is expected, on every node.

    Args:
        package: the name of the folder that Ray unpacks it to: a digest of its content.
        user: the number of the user who runs the job's driver. Part of the name, so that two users are not in each other's way.
    """
    return Path("/tmp", f"autoopt-{user}-code", package)  # noqa: S108 (the same on every node; only its owner may write there)


def settle(place: Path) -> Path:
    """Make the code that Ray has unpacked for this process (its working folder) found at its place; returns that.

    Raises:
        JobError: the place belongs to another user.
    """
    unpacked = Path.cwd()
    if _leads_to(place, unpacked):
        return place
    place.parent.mkdir(mode=0o700, exist_ok=True)
    found = place.parent.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        message = f"{place.parent} is open to other users, whose code could be run instead of yours; remove it"
        raise JobError(message)
    # Others do the same at the same time.
    link = place.with_name(f".{place.name}.{uuid4().hex}")
    link.symlink_to(unpacked)
    link.replace(place)
    return place


def _leads_to(place: Path, folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return place.samefile(folder)
    return False
