"""Cores as people write them: ``0-3,8``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from autoopt.errors import ClusterError

_PART = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


def parse(text: str) -> tuple[int, ...]:
    """The cores, in order.

    Raises:
        ClusterError: it cannot be read, or this process may not use one of them.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            message = f"cores {text!r} cannot be read; write numbers and ranges, as in 0-3,8"
            raise ClusterError(message)
        found.update(range(first, last + 1))
    allowed = os.sched_getaffinity(0)
    if not found <= allowed:
        message = (
            f"there is no core {shown(sorted(found - allowed))} for this process; it may use {shown(sorted(allowed))}"
        )
        raise ClusterError(message)
    return tuple(sorted(found))


def shown(cores: Sequence[int]) -> str:
    """``0-3,8``; ``-`` where there are none."""
    runs: list[list[int]] = []
    for core in sorted(cores):
        if runs and core == runs[-1][-1] + 1:
            runs[-1][1:] = [core]
        else:
            runs.append([core])
    return ",".join("-".join(map(str, run)) for run in runs) or "-"
