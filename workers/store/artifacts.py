"""Artifacts in a remote folder: a manifest for each key, and the files that it names.

An artifact exists when its manifest does. What was uploaded in part has none, so nobody sees it; each publisher uploads into a
folder of its own, so two that publish the same key never mix.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from autoopt.errors import StoreError
from autoopt.workers.store import checksums, uploads
from autoopt.workers.store.folder import RemoteFolder
from autoopt.workers.store.names import is_key
from autoopt.workers.store.trouble import UnreachableError

logger = logging.getLogger(__name__)


class DamagedError(Exception):
    """What lies there is not what was published."""


@dataclass(frozen=True)
class Manifest:
    """Of one artifact."""

    upload: str
    """The name of the folder that holds it."""
    sha256: Mapping[str, str]
    """Of each file, by its path in the artifact."""
    empty_folders: tuple[str, ...]
    """Their paths in the artifact: an object store knows no folders."""

    def encode(self) -> bytes:
        """As `RemoteArtifacts.find` reads it."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()


class RemoteArtifacts:
    """The artifacts below a remote folder.

    Args:
        folder: the store's.
        records: a folder on this node's disk, where its processes record their uploads.
    """

    def __init__(self, folder: RemoteFolder, records: Path) -> None:
        self._folder = folder
        self._records = records

    def keys(self) -> Iterator[str]:
        """Every key that has a manifest."""
        found = [PurePosixPath(name).stem for name in self._folder.names("published")]
        return iter([key for key in found if is_key(key)])

    def find(self, key: str, patience_s: float | None = None) -> Manifest | None:
        """What is published under the key, in one request; None where nothing is.

        Raises:
            DamagedError: the manifest cannot be read.
        """
        content = self._folder.read(_manifest(key), patience_s)
        return None if content is None else _parsed(content)

    def download(self, key: str, manifest: Manifest, folder: Path) -> None:
        """Copy an artifact into an empty local folder, and write its checksums.

        Raises:
            DamagedError: a file is missing, or not what was published.
        """
        for name in manifest.empty_folders:
            (folder / name).mkdir(parents=True)
        try:
            self._folder.download(
                {f"{_upload(key, manifest.upload)}/{name}": folder / name for name in manifest.sha256}
            )
        except FileNotFoundError as error:
            message = f"a file is missing ({error})"
            raise DamagedError(message) from error
        sha256 = checksums.write(folder)
        for name, recorded in manifest.sha256.items():
            if sha256[name] != recorded:
                message = f"{name} is not what was published ({(folder / name).stat().st_size} bytes)"
                raise DamagedError(message)

    def upload(self, key: str, folder: Path, sha256: Mapping[str, str]) -> None:
        """Copy a finished local folder there, unless somebody was faster; the manifest comes last."""
        empty = [path for path in folder.rglob("*") if path.is_dir() and not any(path.iterdir())]
        empty_names = tuple(sorted(path.relative_to(folder).as_posix() for path in empty))
        with uploads.recorded(self._records, key) as upload:
            there = _upload(key, upload)
            try:
                self._folder.upload({f"{there}/{name}": folder / name for name in sha256})
                if self._published(key) is None:
                    self._folder.write(_manifest(key), Manifest(upload, sha256, empty_names).encode())
                else:
                    self._folder.remove(there)
            except UnreachableError:
                raise  # a later sweep removes it
            except StoreError:
                # In a full store nobody else would get the space back.
                with suppress(StoreError):
                    self._folder.remove(there)
                raise

    def discard(self, key: str, damaged: Manifest | None, problem: DamagedError) -> None:
        """Remove a damaged artifact, unless it has been published anew; said in the log.

        Args:
            key: its key.
            damaged: its manifest; None where that is what is damaged.
            problem: what is wrong, for the log.
        """
        if damaged is not None and self._published(key) != damaged:
            return
        logger.warning(
            "artifact %s in %s is damaged: %s; it is removed and made again", key[:12], self._folder, problem
        )
        try:
            self._folder.remove(_manifest(key))
            if damaged is not None:
                self._folder.remove(_upload(key, damaged.upload))
        except StoreError as error:
            logger.warning("the damaged artifact could not be removed: %s", error)

    def sweep(self) -> None:
        """Remove what processes of this node left there that were killed while they uploaded."""
        uploads.sweep(self._records, self._remove_abandoned)

    def _remove_abandoned(self, key: str, upload: str) -> None:
        published = self._published(key)
        if published is None or published.upload != upload:
            self._folder.remove(_upload(key, upload))

    def _published(self, key: str) -> Manifest | None:
        """As `find`; what cannot be read does not count."""
        try:
            return self.find(key)
        except DamagedError:
            return None


def _manifest(key: str) -> str:
    return f"published/{key}.json"


def _upload(key: str, upload: str) -> str:
    return f"artifacts/{key}/{upload}"


def _parsed(content: bytes) -> Manifest:
    try:
        read = json.loads(content)
        manifest = Manifest(str(read["upload"]), dict(read["sha256"]), tuple(read["empty_folders"]))
    except (ValueError, KeyError, TypeError) as error:
        message = f"its manifest cannot be read ({len(content)} bytes)"
        raise DamagedError(message) from error
    for name in (manifest.upload, *manifest.sha256, *manifest.empty_folders):
        path = PurePosixPath(name)
        # A name that leads out of the folder is as old a trick as archives are.
        if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or path.name == checksums.NAME:
            message = f"its manifest names {name!r}, which is no place in an artifact"
            raise DamagedError(message)
    return manifest
