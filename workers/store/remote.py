"""The store at a URL: object storage or a file server, which fsspec speaks to, with a cache on the node's own disk.

::

    published/<key>.json               the manifest: where the files are, and the SHA-256 of each; written last
    artifacts/<key>/<upload>/…         the files of a published folder
    notes/<key>/…                      lines remembered under a key
    jobs/…                             small files by name

The cache is a `LocalStore` that the processes of a node share; it may be removed whenever none of them runs.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import final

from autoopt.errors import StoreError
from autoopt.workers.store import checksums, locks
from autoopt.workers.store.artifacts import DamagedError, Manifest, RemoteArtifacts
from autoopt.workers.store.base import Store
from autoopt.workers.store.files import RemoteFiles
from autoopt.workers.store.folder import PATIENCE_S, RemoteFolder
from autoopt.workers.store.local import LocalStore
from autoopt.workers.store.names import checked_key
from autoopt.workers.store.notes import RemoteNotes

logger = logging.getLogger(__name__)

TRUSTED_FOR_S = 10.0
"""For so long a process does not ask again whether the store still has what the node's cache has."""


@final
class RemoteStore(Store):
    """A store below a URL, for the processes of any number of nodes, each node with a cache.

    It may be used from any thread, and in a forked child.

    Args:
        url: of the folder that holds the store.
        cache: a folder on the node's own disk, for this store only.
        patience_s: how long an operation is tried again while the store does not answer.

    Raises:
        UserError: the address cannot be used.
        StoreError: the cache cannot be made or written.
    """

    def __init__(self, url: str, cache: Path, patience_s: float = PATIENCE_S) -> None:
        self._folder = RemoteFolder(url, patience_s)
        self._cache = LocalStore(cache)
        records, self._downloads = self._cache.root / "uploads", self._cache.root / "downloads"
        for folder in (records, self._downloads):
            folder.mkdir(exist_ok=True)
        self._artifacts = RemoteArtifacts(self._folder, records)
        self._notes = RemoteNotes(self._folder)
        self._seen_at: dict[str, float] = {}
        self._swept = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._folder)!r})"

    def get(self, key: str) -> Path | None:
        """See `Store.get`. One request, none where this process has seen the artifact in the last seconds.

        What the node's cache has and the store has lost (to a lifecycle rule, or to another node that found it damaged) is uploaded
        again; while the store does not answer, the cache does.
        """
        place = self._cache.get(key)
        if place is not None:
            self._keep_there(key, place)
            return place
        for last_look in (False, True):
            manifest: Manifest | None = None
            try:
                manifest = self._artifacts.find(key)
                if manifest is None:
                    return None
                place = self._fetched(key, manifest)
            except DamagedError as problem:
                # The first time the fault may be the network's, or another node has removed it and published anew meanwhile.
                if last_look:
                    self._artifacts.discard(key, manifest, problem)
            else:
                self._seen_at[key] = time.monotonic()
                return place
        return None

    def publish(self, key: str, folder: Path) -> Path:
        """See `Store.publish`. The cache comes last: so nothing is in a cache that was never in the store."""
        found = self.get(key)
        if found is not None:
            shutil.rmtree(folder)
            return found
        self._upload(key, folder, checksums.write(folder))
        if not self._swept:
            self._swept = True
            self._artifacts.sweep()
        return self._cache.adopt(key, folder)

    def scratch(self) -> AbstractContextManager[Path]:
        """See `Store.scratch`: on the cache's file system."""
        return self._cache.scratch()

    def lock(self, key: str, meanwhile: Callable[[], None] = lambda: None) -> AbstractContextManager[None]:
        """See `Store.lock`: among the processes of this node. One computation of a key in a whole cluster is the caller's affair."""
        return self._cache.lock(key, meanwhile)

    def note(self, topic: str, line: str) -> None:
        """See `Store.note`."""
        self._notes.add(checked_key(topic), line)

    def notes(self, topic: str) -> tuple[str, ...]:
        """See `Store.notes`: ordered by the clocks of those who wrote them."""
        return self._notes.lines(checked_key(topic))

    def keys(self) -> Iterator[str]:
        """See `Store.keys`."""
        return self._artifacts.keys()

    @property
    def files(self) -> RemoteFiles:
        """See `Store.files`."""
        return RemoteFiles(self._folder)

    def _fetched(self, key: str, manifest: Manifest) -> Path:
        """Into the cache, by one process of the node."""
        with locks.hold(self._downloads / key, f"the download of artifact {key[:12]}"):
            place = self._cache.get(key)
            if place is not None:
                return place
            with self._cache.scratch() as folder:
                self._artifacts.download(key, manifest, folder)
                return self._cache.adopt(key, folder)

    def _keep_there(self, key: str, place: Path) -> None:
        """See that the store has what the cache has; where it cannot be asked or written, the copy at hand is as good."""
        if time.monotonic() - self._seen_at.get(key, -math.inf) < TRUSTED_FOR_S:
            return
        self._seen_at[key] = time.monotonic()
        try:
            if self._artifacts.find(key, patience_s=0) is not None:
                return
            logger.warning("the store %s has lost artifact %s; it is uploaded again", self._folder, key[:12])
            self._upload(key, place, checksums.read(place) or {})
        except (StoreError, DamagedError) as error:
            logger.warning("going on with this node's copy of artifact %s: %s", key[:12], error)

    def _upload(self, key: str, folder: Path, sha256: dict[str, str]) -> None:
        self._artifacts.upload(key, folder, sha256)
        self._seen_at[key] = time.monotonic()
