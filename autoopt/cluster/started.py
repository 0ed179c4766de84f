"""The nodes that were started on this machine by this user: a record for each, below the clusters' folder.

::

    nodes/<id>.json      the record; written before anything is started, removed when nothing is left
    logs/<id>/           Ray's logs of nodes that were stopped, the last few
    <id>/                Ray's files and sockets, and the folder in which the node's processes meet

The folder is for this user only: Ray makes its own files and sockets below it writable for everybody.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autoopt.cluster.look import boot
from autoopt.errors import ClusterError
from autoopt.records import from_json, to_json

# A socket's path has 107 bytes at most, and Ray adds "/session_<date>_<time>_<pid>/sockets/plasma_store" to the node's folder.
_LONGEST = 107 - 66


@dataclass(frozen=True)
class Started:
    """A node that was started here."""

    id: str
    kind: str
    head: bool
    address: str
    """Of the head's server, ``host:port``: what another node joins."""
    host: str
    """The address by which the others reach this node."""
    lane: tuple[int, ...]
    work: tuple[int, ...]
    folder: str
    """Its own."""
    dashboard: str = ""
    """A head's: the address that clients use."""
    session: int | None = None
    """Of its processes: the id of ``ray start``, which has ended itself."""
    boot: str = ""
    started_at: float = 0.0
    """Seconds since the epoch."""
    autoopt: str = ""
    """The version."""

    @property
    def meeting(self) -> Path:
        """Where its processes find their warmed parents; in the environment of all of them."""
        return Path(self.folder) / "meeting"

    @property
    def before_this_boot(self) -> bool:
        """Whether the machine was restarted since."""
        return self.boot != boot()


def clusters_folder(given: Path | None = None) -> Path:
    """The folder of all clusters, made for this user only where it is missing.

    Args:
        given: ``--temp-dir``; by default, one in the system's folder for temporary files.

    Raises:
        ClusterError: it cannot be made, is not the user's, or its path is too long for Ray's sockets.
    """
    folder = (given or Path(tempfile.gettempdir(), f"autoopt-cluster-{os.getuid()}")).expanduser().absolute()
    room = _LONGEST - len(os.fsencode(folder / new_id()))
    if room < 0:
        message = f"the folder {folder} has a path that is {-room} bytes too long for Ray's sockets; give a shorter one (--temp-dir)"
        raise ClusterError(message)
    try:
        (folder / "nodes").mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.getuid():
            message = f"the folder {folder} belongs to another user; give one of your own (--temp-dir)"
            raise ClusterError(message)
        folder.chmod(0o700)
    except OSError as error:
        message = f"the folder {folder} cannot be used: {error.strerror}; give one that you may write to (--temp-dir)"
        raise ClusterError(message) from error
    return folder


def new_id() -> str:
    """A node's name: short, for it stands in the paths of sockets."""
    return secrets.token_hex(3)


def write(record: Started, folder: Path) -> None:
    """Keep a record."""
    path = _path(folder, record.id)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(to_json(record), indent=2) + "\n")
    part.replace(path)


def remove(record: Started, folder: Path) -> None:
    """Forget a node."""
    _path(folder, record.id).unlink(missing_ok=True)


def read_all(folder: Path) -> tuple[Started, ...]:
    """Every record, the oldest first."""
    found = [from_json(Started, json.loads(path.read_text())) for path in (folder / "nodes").glob("*.json")]
    return tuple(sorted(found, key=lambda record: (record.started_at, record.id)))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Within the context, nobody else starts or stops a node of this folder."""
    descriptor = os.open(folder / "nodes", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _path(folder: Path, node: str) -> Path:
    return folder / "nodes" / f"{node}.json"
