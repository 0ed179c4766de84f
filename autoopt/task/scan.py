"""One look at every sample: what the split contains, whether it can be used, and a digest of it.

The digest of each row of inputs serves twice: for the fingerprint of the task, and to find samples that two splits share.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from autoopt.errors import TaskError
from autoopt.records import digest
from autoopt.task.data import Chunk, Reader


@dataclass(frozen=True)
class Scan:
    """A split's facts."""

    name: str
    length: int
    digest: str
    rows: np.ndarray
    """uint64, (N,): the beginning of each input row's SHA-256."""
    inputs: tuple[tuple[tuple[int, ...], str], ...]
    """(shape without the batch, dtype) of each input."""
    targets: tuple[tuple[int, ...], str]
    target_range: tuple[int, int] | None
    """The least and greatest target, where they are integers."""


class NpyWriter:
    """An .npy file, written as its rows come. (A memory-mapped file would die of SIGBUS on a full disk.)"""

    def __init__(self, path: Path, length: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        self._length = length
        self._started = False

    def add(self, rows: np.ndarray) -> None:
        """rows: (n, ...), of one shape and dtype for the whole file."""
        rows = np.ascontiguousarray(rows)
        if not self._started:
            header = {"descr": rows.dtype.str, "fortran_order": False, "shape": (self._length, *rows.shape[1:])}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._started = True
        self._file.write(rows.reshape(-1).view(np.uint8).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class SplitWriter:
    """``<folder>/input_<i>.npy`` and ``<folder>/targets.npy``."""

    def __init__(self, folder: Path, length: int) -> None:
        self._folder, self._length = folder, length
        self._files: dict[str, NpyWriter] = {}

    def add(self, chunk: Chunk) -> None:
        """Append samples."""
        for index, array in enumerate(chunk.inputs):
            self._file(f"input_{index}").add(array)
        self._file("targets").add(chunk.targets)

    def _file(self, name: str) -> NpyWriter:
        if name not in self._files:
            self._files[name] = NpyWriter(self._folder / f"{name}.npy", self._length)
        return self._files[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():
            file.__exit__(*error)


def write_split(reader: Reader, folder: Path) -> None:
    """Write all samples of a split."""
    with SplitWriter(folder, reader.length) as writer:
        for chunk in reader.chunks():
            writer.add(chunk)


def scan_split(reader: Reader, folder: Path | None) -> Scan:
    """Read a split once; written into ``folder`` on the way where one is given.

    Raises:
        TaskError: NaN, or samples of another shape or type than the first.
    """
    whole = hashlib.sha256()
    rows: list[np.ndarray] = []
    ranges: list[tuple[int, int]] = []
    first: Chunk | None = None
    writer = SplitWriter(folder, reader.length) if folder else None
    try:
        for chunk in reader.chunks():
            first = first or chunk
            _check_like(reader.name, first, chunk)
            _check_numbers(reader.name, chunk, sum(part.size for part in rows))
            digests = _row_digests(chunk.inputs)
            whole.update(digests.tobytes())
            whole.update(np.ascontiguousarray(chunk.targets).tobytes())
            rows.append(digests[:, :8].copy().view(np.uint64).ravel())
            if chunk.targets.dtype.kind in "iu" and chunk.targets.size:
                ranges.append((int(chunk.targets.min()), int(chunk.targets.max())))
            if writer:
                writer.add(chunk)
    finally:
        if writer:
            writer.__exit__()
    assert first is not None  # an empty split has no reader
    inputs, targets = tuple(_spec(array) for array in first.inputs), _spec(first.targets)
    content = digest([whole.hexdigest(), inputs, targets, reader.length])
    target_range = (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None
    return Scan(reader.name, reader.length, content, np.concatenate(rows), inputs, targets, target_range)


def _spec(array: np.ndarray) -> tuple[tuple[int, ...], str]:
    return array.shape[1:], array.dtype.name


def _row_digests(inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    """uint8, (n, 32): the SHA-256 of each sample's inputs."""
    count = len(inputs[0])
    flat = [np.ascontiguousarray(array).reshape(count, -1).view(np.uint8) for array in inputs]
    if len(flat) == 1:
        digests = b"".join(hashlib.sha256(row.data).digest() for row in flat[0])
    else:
        joined = (b"".join(array[row].tobytes() for array in flat) for row in range(count))
        digests = b"".join(hashlib.sha256(row).digest() for row in joined)
    return np.frombuffer(digests, np.uint8).reshape(count, 32)


def _check_like(split: str, first: Chunk, chunk: Chunk) -> None:
    expected = [_spec(array) for array in (*first.inputs, first.targets)]
    found = [_spec(array) for array in (*chunk.inputs, chunk.targets)]
    if found != expected:
        message = f"{split} has samples of shape and type {found}, the first have {expected}; bring them to one"
        raise TaskError(message)


def _check_numbers(split: str, chunk: Chunk, start: int) -> None:
    for what, array in (*(("inputs", array) for array in chunk.inputs), ("targets", chunk.targets)):
        if array.dtype.kind == "f" and np.isnan(array).any():
            row = start + int(np.argwhere(np.isnan(array))[0][0])
            message = f"{split} has NaN in its {what}, first in sample {row}; remove such samples or fill them in"
            raise TaskError(message)
