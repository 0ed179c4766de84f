"""One holder at a time, between threads and processes, with the kernel as the only book-keeper.

`flock` belongs to an open file: every acquisition opens its own, so two threads exclude each other as two processes do,
and a holder that dies by ``kill -9`` frees the lock because the kernel closes its files.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""Waiting longer than this is said in the log, and said again as often."""

_POLL_S = 0.2

_held: set[int] = set()


def _forget_in_child() -> None:
    # A forked child shares its parent's open files: were it to outlive a killed parent, the lock would stay held.
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)


@contextmanager
def hold(path: Path, about: str, meanwhile: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file, waiting for as long as it takes.

    Args:
        path: the lock file.
        about: says in the log what is waited for.
        meanwhile: called now and then while waiting; what it raises ends the waiting.
    """
    descriptor = _open(path)
    try:
        if not _taken(descriptor):
            _wait(descriptor, about, meanwhile)
        yield
    finally:
        _close(descriptor)


@contextmanager
def try_hold(path: Path) -> Iterator[bool]:
    """Hold the lock file if nobody does; yields whether it is held now."""
    descriptor = _open(path)
    try:
        yield _taken(descriptor)
    finally:
        _close(descriptor)


def _open(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    _held.add(descriptor)
    return descriptor


def _close(descriptor: int) -> None:
    if descriptor not in _held:
        return  # a forked child has closed it already, and the number may be another file's by now
    _held.discard(descriptor)
    os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(descriptor: int, about: str, meanwhile: Callable[[], None]) -> None:
    began = said_at = time.monotonic()
    while not _taken(descriptor):
        meanwhile()
        time.sleep(_POLL_S)
        now = time.monotonic()
        if now - said_at >= PATIENCE_S:
            said_at = now
            logger.info("waiting since %.0f s for %s: another process is computing it", now - began, about)
