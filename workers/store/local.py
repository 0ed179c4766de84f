"""The store as a folder of the local file system.

::

    root/ab/abcdef…/       a published folder under its key, with the SHA-256 of each file in ``.checksums.json``
    root/scratch/<name>/   work in progress, ``<name>.lock`` held by its process
    root/locks/<key>       who may compute a key
    root/notes/<key>       lines remembered under a key
    root/jobs/…            small files by name

What is published appears by one rename, whole or not at all.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from autoopt.errors import FailureKind, StageError, StoreError
from autoopt.workers.store import checksums, locks
from autoopt.workers.store.base import Store
from autoopt.workers.store.files import LocalFiles
from autoopt.workers.store.names import checked_key, is_key

logger = logging.getLogger(__name__)

ABANDONED_AFTER_S = 3600.0
"""Age at which a scratch folder without an owner is removed."""
ALMOST_FULL_BYTES = 1 << 20
"""With less than this free, whatever fails while writing is taken to fail for want of space."""

_REMEDIES = {
    errno.ENOSPC: "free space there, then resume the job",
    errno.EDQUOT: "raise your quota or free space there, then resume the job",
    errno.EROFS: "its file system is read-only: mount it writable or choose another folder, then resume the job",
    errno.EACCES: "give yourself the right to write there or choose another folder, then resume the job",
    errno.EPERM: "give yourself the right to write there or choose another folder, then resume the job",
    errno.ENOTDIR: "name a folder, not a file",
    errno.EEXIST: "name a folder, not a file",
    errno.EIO: "its disk reports an error: look at the kernel's log, or choose another folder",
}


class LocalStore(Store):
    """A store in a folder, shared by any number of processes of this machine, or of several that share the folder.

    Raises:
        StoreError: the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self._verified: set[str] = set()
        with self.errors():
            for folder in (self._scratch, self._locks):
                folder.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()

    def get(self, key: str) -> Path | None:
        """See `Store.get`. The checksums are verified once a process for each key."""
        place = self._place(key)
        with self.errors():
            if not place.is_dir():
                self._verified.discard(key)
                return None
            if key not in self._verified:
                if checksums.problem(place) is not None and self._removed(key):
                    return None
                self._verified.add(key)
        return place

    def publish(self, key: str, folder: Path) -> Path:
        """See `Store.publish`. A folder of another file system is copied first."""
        self._place(key)
        with self.errors():
            if folder.stat().st_dev != self.root.stat().st_dev:
                with self.scratch() as copy:
                    shutil.copytree(folder, copy, dirs_exist_ok=True)
                    published = self.publish(key, copy)
                shutil.rmtree(folder)
                return published
            checksums.write(folder)
            return self.adopt(key, folder)

    def adopt(self, key: str, folder: Path) -> Path:
        """Publish a scratch folder of this store whose checksums are written already."""
        place = self._place(key)
        with self.errors():
            place.parent.mkdir(exist_ok=True)
            _rename_or_drop(folder, place)
            checksums.sync_folder(place.parent)
        return place

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """See `Store.scratch`. A failure inside, on a disk that is full, becomes a StoreError."""
        with self.errors():
            folder = self._scratch / uuid.uuid4().hex
            lock = folder.with_suffix(".lock")
            with locks.hold(lock, "a scratch folder"):
                folder.mkdir()
                try:
                    yield folder
                except Exception as error:  # the cause is looked for outside the exception, which is raised again
                    self._blame_full_disk(error)
                    raise
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                    lock.unlink(missing_ok=True)

    @contextmanager
    def lock(self, key: str, meanwhile: Callable[[], None] = lambda: None) -> Iterator[None]:
        """See `Store.lock`. Waiting longer than ten seconds is said in the log. Not re-entrant."""
        self._place(key)
        with self.errors(), locks.hold(self._locks / key, f"artifact {key[:12]}", meanwhile):
            yield

    def note(self, topic: str, line: str) -> None:
        """See `Store.note`."""
        self._place(topic)
        with self.errors():
            self._notes.mkdir(exist_ok=True)
            # One write of an append-mode file goes to its end as a whole.
            with (self._notes / topic).open("ab", buffering=0) as file:
                file.write(line.encode() + b"\n")

    def notes(self, topic: str) -> tuple[str, ...]:
        """See `Store.notes`."""
        self._place(topic)
        with self.errors():
            try:
                text = (self._notes / topic).read_text()
            except FileNotFoundError:
                return ()
        return tuple(line for line in text.split("\n")[:-1] if line)

    def keys(self) -> Iterator[str]:
        """See `Store.keys`."""
        with self.errors():
            found = sorted(self.root.glob("[0-9a-f][0-9a-f]/*"))
        return (path.name for path in found if is_key(path.name))

    @property
    def files(self) -> LocalFiles:
        """See `Store.files`."""
        return LocalFiles(self.root, self.errors)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Within the context, what the operating system says about the store becomes a StoreError that says what to do."""
        try:
            yield
        except OSError as error:
            if error.errno in _REMEDIES and self._is_ours(error):
                self._fail(error, error.errno)
            raise

    @property
    def _scratch(self) -> Path:
        return self.root / "scratch"

    @property
    def _notes(self) -> Path:
        return self.root / "notes"

    @property
    def _locks(self) -> Path:
        return self.root / "locks"

    def _place(self, key: str) -> Path:
        return self.root / key[:2] / checked_key(key)

    def _removed(self, key: str) -> bool:
        """Whether the artifact is gone because it is damaged, now looked at by one process at a time.

        Without the second look, a process that is late could remove what another has published anew.
        """
        place = self._place(key)
        with locks.hold(self._locks / f"{key}.removal", f"the removal of artifact {key[:12]}"):
            if not place.is_dir():
                return True
            problem = checksums.problem(place)
            if problem is None:
                return False
            logger.warning("artifact %s in %s is damaged: %s; it is removed and made again", key[:12], place, problem)
            with self.scratch() as grave:
                place.rename(grave / "damaged")
        return True

    def _remove_abandoned(self) -> None:
        for lock in self._scratch.glob("*.lock"):
            try:
                age_s = time.time() - lock.stat().st_mtime
            except FileNotFoundError:
                continue  # its owner has just finished
            if age_s < ABANDONED_AFTER_S:
                continue
            with locks.try_hold(lock) as free:
                if free:
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink(missing_ok=True)

    def _is_ours(self, error: OSError) -> bool:
        # A write through an open file names no path; what names another folder is not the store's business.
        return error.filename is None or str(error.filename).startswith(str(self.root))

    def _blame_full_disk(self, error: Exception) -> None:
        """Libraries hide a full disk behind errors of their own (torch: RuntimeError): ask the disk itself."""
        state = os.statvfs(self.root)
        if isinstance(error, StageError) and error.kind is FailureKind.OUT_OF_SPACE:
            return  # what fills it is this folder, and goes with it
        if not isinstance(error, StoreError) and state.f_bavail * state.f_frsize < ALMOST_FULL_BYTES:
            self._fail(error, errno.ENOSPC)

    def _fail(self, error: Exception, code: int | None) -> NoReturn:
        remedy = _REMEDIES[code or errno.ENOSPC]
        message = f"the store in {self.root} cannot be used: {os.strerror(code or errno.ENOSPC)} ({error}); {remedy}"
        raise StoreError(message) from error


def _rename_or_drop(folder: Path, place: Path) -> None:
    """The first to publish a key wins: the others' work is the same, and is dropped."""
    try:
        folder.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(folder)
