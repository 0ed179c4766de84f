"""The seam of the content-addressed artifact store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from autoopt.workers.store.files import Files


class Store(ABC):
    """Folders by key. A key is a full-length content digest, so what is published under it never changes."""

    @abstractmethod
    def get(self, key: str) -> Path | None:
        """The folder under the key, its checksums verified; None where there is none.

        A damaged artifact is removed, said in the log, and None is returned, so that it is made again.
        """

    @abstractmethod
    def publish(self, key: str, folder: Path) -> Path:
        """Move a finished folder into the store, atomically; returns its place. The first to publish a key wins.

        Raises:
            StoreError: the disk is full, or may not be written.
        """

    @abstractmethod
    def scratch(self) -> AbstractContextManager[Path]:
        """An empty folder on the store's own file system, removed at the end unless it was published."""

    @abstractmethod
    def lock(self, key: str, meanwhile: Callable[[], None] = lambda: None) -> AbstractContextManager[None]:
        """Hold the right to compute the key: one holder at a time on this node, freed when the holder's process dies.

        ``meanwhile`` is called now and then while another holds it; what it raises ends the waiting.
        """

    @abstractmethod
    def note(self, topic: str, line: str) -> None:
        """Append a line to what is remembered under a topic (a key). Lines of several processes are not mixed."""

    @abstractmethod
    def notes(self, topic: str) -> tuple[str, ...]:
        """The lines remembered under a topic, the oldest first; a half-written last one is left out."""

    @abstractmethod
    def keys(self) -> Iterator[str]:
        """Every key that is published."""

    @property
    @abstractmethod
    def files(self) -> Files:
        """Small files by name, beside the artifacts."""
