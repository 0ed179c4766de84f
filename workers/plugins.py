"""Which engines and techniques other packages have, by their entry points.

Looking takes reading a file of every package installed, ten milliseconds, and each stage's process would do it anew. So it is
remembered, for as long as the same packages are installed; processes that are forked inherit it.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from importlib import metadata

_OF_A_PACKAGE = (".dist-info", ".egg-info")


def entry_points(group: str) -> metadata.EntryPoints:
    """Those of the packages that are installed now."""
    return _entry_points(group, tuple(name for entry in sys.path for name in _packages(entry or ".")))


@lru_cache(maxsize=8)
def _entry_points(group: str, packages: tuple[str, ...]) -> metadata.EntryPoints:
    del packages
    return metadata.entry_points(group=group)


def _packages(folder: str) -> list[str]:
    """The names and versions of those in a folder of the import path."""
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(_OF_A_PACKAGE))  # noqa: PTH208 (names are all that is wanted)
    except OSError:
        return []  # an archive, or nothing at all
