"""The user's code on every node of a cluster, always under the same path.

It travels as the runtime environment of the job's Ray job, which Ray unpacks below a folder of its session and removes after the
job. But what is pickled names a task's file by its path, and lies in the store for longer than that. So each process that needs
the code first sees that there is a copy under a name that follows from its content.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from autoopt.errors import JobError
from autoopt.task.imports import Imports

_HIDDEN = shutil.ignore_patterns(".*", "__pycache__")


def place_of(digest: str, user: int) -> Path:
    """Where code of that digest is expected, on every node; in a folder of the user who runs the job's driver."""
    return Path("/tmp", f"autoopt-{user}-code", digest)  # noqa: S108 (the same on every node; only its owner may write there)


def settle(places: Iterable[str]) -> None:
    """Copy the code that Ray has unpacked for this process (its working folder) to its places, where it is not yet.

    Raises:
        JobError: a place belongs to another user.
    """
    for place in map(Path, places):
        if place.is_dir():
            continue
        place.parent.mkdir(mode=0o700, exist_ok=True)
        found = place.parent.lstat()
        if found.st_uid != os.getuid() or found.st_mode & 0o022:
            message = f"{place.parent} is open to other users, whose code could be run instead of yours; remove it"
            raise JobError(message)
        # Others do the same at the same time: the first wins.
        copy = place.with_name(f".{place.name}.{uuid4().hex}")
        shutil.copytree(Path.cwd(), copy, ignore=_HIDDEN)
        try:
            copy.rename(place)
        except OSError:
            shutil.rmtree(copy)
            if not place.is_dir():
                raise


def named_by(imports: Imports, user: int) -> tuple[str, ...]:
    """The places that a prepared task names: another job may have prepared it, with the same code in other company."""
    root = place_of("", user)
    paths = (Path(path) for path in (*imports.folders, *imports.modules.values()))
    names = {path.relative_to(root).parts[0] for path in paths if path.is_relative_to(root) and path != root}
    return tuple(str(root / name) for name in sorted(names))
