"""The study's journal file, made to survive kill -9.

Optuna's journal appends JSON lines. Two things go wrong when the writer dies: its lock file stays (others wait 30 s for it),
and a half-written last line is glued to the next record, after which the whole journal cannot be read. So the lock is
the kernel's, which frees it with the process, and a half line is cut off before anyone writes.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

_BLOCK = 1 << 16


class _KernelLock(JournalFileOpenLock):
    """An exclusive flock on a file beside the journal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def open_journal(path: Path, *, writable: bool = True) -> JournalStorage:
    """The storage in that file, made where there is none.

    Args:
        path: the journal.
        writable: whether a half-written last line may be cut off; a mere reader leaves the file as it is.
    """
    lock = _KernelLock(path.with_name(path.name + ".lock"))
    path.parent.mkdir(parents=True, exist_ok=True)
    if writable and path.exists():
        with _held(lock):
            _cut_half_line(path)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


@contextmanager
def _held(lock: _KernelLock) -> Iterator[None]:
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _cut_half_line(path: Path) -> None:
    """Cut the file after its last line break."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        start = end
        while start > 0:
            start = max(0, start - _BLOCK)
            file.seek(start)
            place = file.read(min(_BLOCK, end - start)).rfind(b"\n")
            if place >= 0:
                file.truncate(start + place + 1)
                return
        file.truncate(0)
