"""Small files beside the artifacts: what a job writes about itself, by names such as ``jobs/<id>/state.json``."""

from __future__ import annotations

import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import final

from autoopt.workers.store import checksums
from autoopt.workers.store.folder import RemoteFolder
from autoopt.workers.store.names import checked_name


class Files(ABC):
    """Files by name. A name is relative, without ``..``; the store's own folders cannot be named (ValueError)."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write a file, or replace it: as a whole, wherever the store's protocol can do that."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""

    @abstractmethod
    def names(self, prefix: str) -> tuple[str, ...]:
        """The files in a folder and its folders, sorted; the file itself where the prefix is one."""

    @abstractmethod
    def remove(self, prefix: str) -> None:
        """Remove a file, or a folder with all that is in it; it may be gone already."""


@final
class LocalFiles(Files):
    """In a folder of this machine.

    Args:
        root: the store's folder.
        errors: turns the operating system's errors into a StoreError.
    """

    def __init__(self, root: Path, errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._root = root
        self._errors = errors

    def write(self, name: str, content: bytes) -> None:
        """See `Files.write`."""
        path = self._path(name)
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            try:
                with temporary.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            checksums.sync_folder(path.parent)

    def read(self, name: str) -> bytes | None:
        """See `Files.read`."""
        with self._errors():
            try:
                return self._path(name).read_bytes()
            except FileNotFoundError:
                return None

    def names(self, prefix: str) -> tuple[str, ...]:
        """See `Files.names`."""
        path = self._path(prefix)
        with self._errors():
            found = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        return tuple(sorted(str(one.relative_to(self._root)) for one in found if not one.name.startswith(".")))

    def remove(self, prefix: str) -> None:
        """See `Files.remove`."""
        path = self._path(prefix)
        with self._errors():
            try:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except FileNotFoundError:
                return

    def _path(self, name: str) -> Path:
        return self._root / checked_name(name)


@final
class RemoteFiles(Files):
    """In a remote folder."""

    def __init__(self, folder: RemoteFolder) -> None:
        self._folder = folder

    def write(self, name: str, content: bytes) -> None:
        """See `Files.write`."""
        self._folder.write(checked_name(name), content)

    def read(self, name: str) -> bytes | None:
        """See `Files.read`."""
        return self._folder.read(checked_name(name))

    def names(self, prefix: str) -> tuple[str, ...]:
        """See `Files.names`."""
        return self._folder.names(checked_name(prefix))

    def remove(self, prefix: str) -> None:
        """See `Files.remove`."""
        self._folder.remove(checked_name(prefix))
