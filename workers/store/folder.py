"""A folder on a remote file system: whole small files, batches of large ones, short outages waited for, errors in words.

Opened anew in a forked child: the clients have an event loop in a thread, which a child does not inherit.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from autoopt.errors import AutooptError, StoreError
from autoopt.workers.store.address import Address, parse
from autoopt.workers.store.trouble import Trouble, UnreachableError, lacks_bucket, trouble_of

logger = logging.getLogger(__name__)

PATIENCE_S = 90.0
"""How long an operation is tried again while the store does not answer."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0
SAID_AGAIN_AFTER_S = 10.0
AT_ONCE = 8
"""Files moved at a time: each may take 100 MB of memory."""

_LOCAL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})

T = TypeVar("T")


class RemoteFolder:
    """Files by name, relative to a URL.

    Every method raises StoreError (UnreachableError where the store does not answer) with a sentence that says what to do.

    Args:
        url: of the folder; see `autoopt.workers.store.address`.
        patience_s: how long an operation is tried again.

    Raises:
        UserError: the address cannot be used.
    """

    def __init__(self, url: str, patience_s: float = PATIENCE_S) -> None:
        self.address = parse(url)
        self._patience_s = patience_s
        # A parent's file systems stay here in a forked child: to collect them would close the parent's connections.
        self._opened: dict[tuple[int, int], Any] = {}
        self._shared = bool(getattr(self.address.kind, "async_impl", False))

    def __str__(self) -> str:
        return str(self.address)

    def read(self, name: str, patience_s: float | None = None) -> bytes | None:
        """A file's content in one request; None where there is none."""
        try:
            content: bytes = self._try(lambda fs: fs.cat_file(self._path(name), **self._one_request), patience_s)
        except FileNotFoundError:
            return None
        return content

    def read_all(self, names: Iterable[str]) -> list[bytes]:
        """The files' contents, in parallel where the protocol can; what is gone meanwhile is left out."""
        paths = [self._path(name) for name in names]

        def work(fs: Any) -> list[bytes]:
            answers = fs.cat_ranges(paths, None, None, **self._one_request)
            for answer in answers:
                if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                    raise answer
            return [answer for answer in answers if isinstance(answer, bytes)]

        return self._try(work) if paths else []

    def write(self, name: str, content: bytes) -> None:
        """Write a file, which appears whole or not at all where the protocol can do that."""
        path = self._path(name)
        if self.address.traits.objects:
            self._must(lambda fs: fs.pipe_file(path, content))
            return
        parent, _, last = path.rpartition("/")
        temporary = f"{parent}/.{last}.{uuid.uuid4().hex}"

        def work(fs: Any) -> None:
            fs.makedirs(parent, exist_ok=True)
            fs.pipe_file(temporary, content)
            fs.mv(temporary, path)

        self._must(work)

    def names(self, prefix: str) -> tuple[str, ...]:
        """The files below a folder, sorted; the names begin with the prefix. Hidden ones are left out."""
        start, path = len(self.address.root) + 1, self._path(prefix)

        def work(fs: Any) -> list[str]:
            # Some file systems list a file as itself, some say that there is no such folder.
            return _below(fs, path) or ([path] if not self.address.traits.objects and fs.isfile(path) else [])

        found = sorted(one[start:] for one in self._try(work))
        return tuple(name for name in found if not name.rpartition("/")[2].startswith("."))

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it; it may be gone already."""
        path = self._path(name)
        objects = self.address.traits.objects
        with suppress(FileNotFoundError):
            # Not every file system takes a file for a folder of nothing, and only a file system has folders.
            self._try(lambda fs: fs.rm(path, recursive=objects or fs.isdir(path)))

    def upload(self, files: Mapping[str, Path]) -> None:
        """Copy local files there; while they are copied some may be there in part.

        Args:
            files: the name there to the local path.
        """
        names, paths = [self._path(name) for name in files], [str(path) for path in files.values()]
        parents = () if self.address.traits.objects else sorted({name.rpartition("/")[0] for name in names})

        def work(fs: Any) -> None:
            for parent in parents:
                fs.makedirs(parent, exist_ok=True)
            fs.put(paths, names, **self._batch)

        if names:
            self._must(work)

    def download(self, files: Mapping[str, Path]) -> None:
        """Copy files from there; folders are made.

        Args:
            files: the name there to the local path.

        Raises:
            FileNotFoundError: one is not there.
            OSError: the local disk is full or may not be written.
        """
        names, paths = [self._path(name) for name in files], [str(path) for path in files.values()]
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)

        def work(fs: Any) -> None:
            try:
                fs.get(names, paths, **self._batch)
            except OSError as error:
                if error.errno in _LOCAL:
                    raise _LocalDiskError(error) from error
                raise

        try:
            self._try(work) if names else None
        except _LocalDiskError as error:
            raise error.original from error

    @property
    def _one_request(self) -> dict[str, Any]:
        return self.address.traits.one_request

    @property
    def _batch(self) -> dict[str, Any]:
        return {"batch_size": AT_ONCE} if self._shared else {}

    def _path(self, name: str) -> str:
        return f"{self.address.root}/{name}"

    def _must(self, work: Callable[[Any], object]) -> None:
        """Where a missing file can only mean that the bucket is missing."""
        try:
            self._try(work)
        except FileNotFoundError as error:
            raise self._error(Trouble.NO_BUCKET, error, 0.0) from error

    def _try(self, work: Callable[[Any], T], patience_s: float | None = None) -> T:
        """Do it, again after a while if the store does not answer; FileNotFoundError passes."""
        patience_s = self._patience_s if patience_s is None else patience_s
        outage = _Outage(self.address)
        while True:
            try:
                done = work(self._file_system())
            except (AutooptError, _LocalDiskError):
                raise
            except Exception as error:  # every client has its own tree of errors
                trouble = trouble_of(error)
                if trouble is None or (isinstance(error, FileNotFoundError) and not lacks_bucket(error)):
                    outage.ends()
                    raise
                outage.began()
                if trouble is not Trouble.UNREACHABLE or outage.lasted_s >= patience_s:
                    raise self._error(trouble, error, outage.lasted_s) from error
                self._close_broken()
                outage.goes_on(error, patience_s)
            else:
                outage.ends()
                return done

    def _error(self, trouble: Trouble, error: Exception, tried_s: float) -> StoreError:
        words = self.address.scrubbed(_words(error))
        tried = f" (tried for {tried_s:.0f} s)" if trouble is Trouble.UNREACHABLE and tried_s >= 1 else ""
        message = f"the store {self.address} {trouble.value.format(error=words + tried)}"
        if self._patience_s > 0:
            message += ", then resume the job"
        return (UnreachableError if trouble is Trouble.UNREACHABLE else StoreError)(message)

    def _file_system(self) -> Any:
        """One for the process where any thread may use it, else one for each thread."""
        key = self._key()
        found = self._opened.get(key)
        if found is None:
            # Without a lock, which a forked child might inherit as held: the second of two has only worked for nothing.
            found = self._opened.setdefault(key, self.address.open())
        return found

    def _close_broken(self) -> None:
        """A client with one connection does not mend it."""
        if not self._shared:
            self._opened.pop(self._key(), None)

    def _key(self) -> tuple[int, int]:
        return os.getpid(), 0 if self._shared else threading.get_ident()


class _Outage:
    """How long the store does not answer, for one operation; says so in the log."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._began: float | None = None
        self._said_at_s: float | None = None
        self._wait_s = FIRST_WAIT_S

    @property
    def lasted_s(self) -> float:
        return 0.0 if self._began is None else time.monotonic() - self._began

    def began(self) -> None:
        """The first failure counts, not when the operation began: uploading may take minutes."""
        self._began = self._began or time.monotonic()

    def goes_on(self, error: Exception, patience_s: float) -> None:
        """Wait before the operation is tried again, for the last time when patience ends."""
        if self._said_at_s is None or self.lasted_s - self._said_at_s >= SAID_AGAIN_AFTER_S:
            self._said_at_s = self.lasted_s
            said = self._address.scrubbed(_words(error))
            logger.warning("the store %s does not answer (%s); trying again", self._address, said)
        # Many processes lose it at the same moment and should not all come back at the same moment.
        wait_s = self._wait_s * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
        time.sleep(min(wait_s, max(patience_s - self.lasted_s, 0.0)))
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)

    def ends(self) -> None:
        if self._said_at_s is not None:
            logger.warning("the store %s answers again after %.1f s", self._address, self.lasted_s)


class _LocalDiskError(Exception):
    """What is wrong is this machine's disk, not the store."""

    def __init__(self, original: OSError) -> None:
        super().__init__(str(original))
        self.original = original


def _below(fs: Any, path: str) -> list[str]:
    """The files in a folder and its folders; none where there is no such folder. What fsspec has for this hides errors."""
    try:
        listing = fs.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        if lacks_bucket(error):
            raise
        return []
    found: list[str] = []
    for entry in listing:
        name = entry["name"].rstrip("/")
        if entry["type"] == "directory" and name != path:
            found += _below(fs, name)
        elif entry["type"] != "directory":
            found.append(name)
    return found


def _words(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
