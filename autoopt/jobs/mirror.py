"""Keeps a copy of a job's folder in a store that is no folder: whoever asks from elsewhere reads there, and the job can go on from it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import TracebackType

from autoopt.errors import StoreError
from autoopt.workers.store.files import Files

EVERY_S = 2.0
_LEFT_OUT = ("tune/", "study.journal", "callbacks.pkl")

logger = logging.getLogger(__name__)


class Mirror:
    """Copies what has changed, every two seconds as long as its context lasts.

    Args:
        folder: the job's.
        files: the store's.
        home: the folder's name there.
    """

    def __init__(self, folder: Path, files: Files, home: str) -> None:
        self._folder = folder
        self._files = files
        self._home = home
        self._copied: dict[str, tuple[int, int]] = {}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="mirror", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def pull(self) -> None:
        """Take over what the store has, where this machine has nothing older of it: the job ran elsewhere before."""
        for name in self._files.names(self._home):
            inner = name.removeprefix(f"{self._home}/")
            content = self._files.read(name)
            if content is not None and self._belongs(inner):
                target = self._folder / inner
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                self._copied[inner] = _mark(target)

    def push(self) -> None:
        """Copy what has changed since the last time.

        Raises:
            StoreError: the store does not take it.
        """
        with self._lock:
            for path in sorted(self._folder.rglob("*")):
                inner = str(path.relative_to(self._folder))
                if not path.is_file() or not self._belongs(inner):
                    continue
                mark = _mark(path)
                if self._copied.get(inner) != mark:
                    self._files.write(f"{self._home}/{inner}", path.read_bytes())
                    self._copied[inner] = mark

    def _loop(self) -> None:
        while not self._ended.wait(EVERY_S):
            try:
                self.push()
            except (StoreError, OSError) as error:
                # The search is worth more than who watches it; the last time is not forgiven.
                logger.warning("the job's files could not be copied to the store: %s", error)

    @staticmethod
    def _belongs(inner: str) -> bool:
        return not inner.startswith((*_LEFT_OUT, ".")) and "/." not in inner


def _mark(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size
