"""What the teacher makes of the training samples, in files that were computed a chunk at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

OUTPUTS, FEATURES = "outputs.npy", "features.npy"


class Chunked:
    """Arrays one after the other, read by row as if they were one; only the rows that are asked for are loaded."""

    def __init__(self, parts: Sequence[np.ndarray[Any, Any]]) -> None:
        """``parts``: ``(n, ...)`` each, alike but for their length; memory-mapped, best."""
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        """The rows of all."""
        return int(self._ends[-1])

    def __getitem__(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A copy of the rows of these numbers, ``(len(rows), ...)``.

        Raises:
            IndexError: a number is beyond the end.
        """
        parts = np.searchsorted(self._ends, rows, side="right")
        found = np.empty((len(rows), *self._parts[0].shape[1:]), self._parts[0].dtype)
        for index in np.unique(parts):
            part = self._parts[index]
            here = parts == index
            found[here] = part[rows[here] - (self._ends[index] - len(part))]
        return found
