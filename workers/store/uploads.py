"""Which uploads are under way, on record on the node's own disk, so that what a killed process left there is removed later.

The record is a file with the artifact's key, locked by the process that uploads: the kernel says whether it still does.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autoopt.workers.store import locks

logger = logging.getLogger(__name__)

JUST_MADE_S = 3600.0
"""A record without a key that is younger than this is about to get one."""


@contextmanager
def recorded(records: Path, key: str) -> Iterator[str]:
    """Yields the upload's name; the record goes when the upload ends well, and stays where it fails."""
    upload = uuid.uuid4().hex
    record = records / upload
    with locks.hold(record, "an upload of its own"):
        record.write_text(key)
        yield upload
        record.unlink()


def sweep(records: Path, remove: Callable[[str, str], None]) -> None:
    """Remove what uploads have left whose processes are gone.

    Args:
        records: the node's.
        remove: given key and upload, removes what there is of it unless it was published after all.
    """
    for record in sorted(records.iterdir()):
        with locks.try_hold(record) as abandoned, suppress(FileNotFoundError):  # its owner may end meanwhile
            if not abandoned:
                continue
            key, age_s = record.read_text(), time.time() - record.stat().st_mtime
            if not key and age_s < JUST_MADE_S:
                continue  # its owner has not locked it yet
            if key:
                logger.info("removing what an upload of artifact %s left when it ended early", key[:12])
                remove(key, record.name)
            record.unlink()
