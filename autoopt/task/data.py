"""A split, however it was given, as chunks of numpy arrays.

Given are whole arrays, or a map-style data set that makes an item at a time. Either may be larger than what should be copied in
memory, so everything downstream (hashing, checking, writing) sees chunks.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.errors import TaskError

CHUNK = 512
"""Samples a chunk."""
KINDS = "fiub"
"""numpy's dtype kinds that networks take: real, integer, unsigned, boolean."""
_ALLOWED = (
    "a split is (inputs, targets) of arrays or tensors, or a map-style data set (__len__ and __getitem__) of "
    "(input, target) items; inputs are an array, a tuple of arrays or a dict of arrays"
)
PAIR = 2


@dataclass(frozen=True)
class Columns:
    """Inputs with the batch first, and how the network's ``forward`` takes them."""

    structure: str
    names: tuple[str, ...]
    arrays: tuple[Any, ...]
    """An array for each name, (N, ...): numpy's own, not copied."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive samples. inputs: (n, ...) each; targets: (n, ...)."""

    inputs: tuple[np.ndarray, ...]
    targets: np.ndarray


class Reader(ABC):
    """A split that can be read from beginning to end."""

    name: str
    length: int
    in_memory: bool
    """Whether reading it twice is cheap and gives the same."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> tuple[Columns, np.ndarray]:
        """Inputs and targets of some samples, dtypes as given."""

    def chunk(self, start: int, stop: int) -> Chunk:
        """Samples ``start`` to ``stop``, float64 made float32."""
        columns, targets = self.rows(start, min(stop, self.length))
        return Chunk(tuple(narrow(array) for array in columns.arrays), narrow(targets))

    def chunks(self) -> Iterator[Chunk]:
        """All samples in order."""
        for start in range(0, self.length, CHUNK):
            yield self.chunk(start, start + CHUNK)


class ArrayReader(Reader):
    """(inputs, targets) as arrays."""

    in_memory = True

    def __init__(self, name: str, inputs: Any, targets: Any) -> None:
        self.name = name
        self._columns = columns(inputs, name)
        self._targets = as_numpy(targets, f"the targets of {name}")
        lengths = {len(array) if array.ndim else 0 for array in (*self._columns.arrays, self._targets)}
        if len(lengths) != 1:
            shapes = ", ".join(str(array.shape) for array in self._columns.arrays)
            message = (
                f"{name} has inputs {shapes} and targets {self._targets.shape}: of different lengths. "
                "Give one target for each input; the samples are the first axis."
            )
            raise TaskError(message)
        (self.length,) = lengths

    def rows(self, start: int, stop: int) -> tuple[Columns, np.ndarray]:
        """Views, not copies."""
        whole = self._columns
        parts = tuple(array[start:stop] for array in whole.arrays)
        return Columns(whole.structure, whole.names, parts), self._targets[start:stop]


class DatasetReader(Reader):
    """A map-style data set; its items are made once, because they may differ the next time (augmentation)."""

    in_memory = False

    def __init__(self, name: str, dataset: Any) -> None:
        self.name = name
        self._dataset = dataset
        self.length = len(dataset)

    def rows(self, start: int, stop: int) -> tuple[Columns, np.ndarray]:
        """Items, stacked."""
        items = [self._item(index) for index in range(start, stop)]
        inputs = [columns([item], self.name, batched=False) for item, _ in items]
        first = inputs[0]
        stacked = tuple(
            self._stack([each.arrays[position] for each in inputs], start) for position in range(len(first.names))
        )
        targets = self._stack([as_numpy(target, f"a target of {self.name}") for _, target in items], start)
        return Columns(first.structure, first.names, stacked), targets

    def _item(self, index: int) -> tuple[Any, Any]:
        try:
            item = self._dataset[index]
        except Exception as error:  # the user's own code: whatever it raises is told with the sample that raised it
            message = f"{self.name}[{index}] cannot be read: {type(error).__name__}: {error}"
            raise TaskError(message) from error
        if not isinstance(item, tuple | list) or len(item) != PAIR:
            message = f"{self.name}[{index}] is {_describe(item)}, not an (input, target) pair; {_ALLOWED}"
            raise TaskError(message)
        return item[0], item[1]

    def _stack(self, arrays: list[np.ndarray], start: int) -> np.ndarray:
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            message = (
                f"{self.name} has samples of different shapes ({', '.join(map(str, sorted(shapes)))}) from index {start} on; "
                "bring them to one shape (crop, pad) in the data set"
            )
            raise TaskError(message)
        return np.stack(arrays)


def open_split(name: str, split: Any) -> Reader:
    """A reader for a split in any of the forms that are allowed.

    Raises:
        TaskError: none of them, of different lengths, or empty.
    """
    if isinstance(split, tuple | list) and len(split) == PAIR and _is_columns(split[0]):
        reader: Reader = ArrayReader(name, split[0], split[1])
    elif isinstance(split, Mapping | str) or not (hasattr(split, "__len__") and hasattr(split, "__getitem__")):
        message = f"{name} is {_describe(split)}; {_ALLOWED}"
        raise TaskError(message)
    else:
        reader = DatasetReader(name, split)
    if reader.length == 0:
        message = f"{name} is empty; give at least one sample"
        raise TaskError(message)
    return reader


def columns(inputs: Any, where: str, *, batched: bool = True) -> Columns:
    """Inputs as arrays in order with their names: ``input``, ``input_0`` and so on, or the dict's keys.

    Args:
        inputs: an array, a tuple or a dict; for one item (``batched=False``) in a list of one.
        where: for the error.
        batched: whether the first axis is the batch.
    """
    given = inputs if batched else inputs[0]
    what = f"an input of {where}"
    if isinstance(given, Mapping):
        return Columns("dict", tuple(map(str, given)), tuple(as_numpy(value, what) for value in given.values()))
    if isinstance(given, tuple | list) and given and all(_is_array(value) for value in given):
        names = tuple(f"input_{index}" for index in range(len(given)))
        return Columns("tuple", names, tuple(as_numpy(value, what) for value in given))
    return Columns("array", ("input",), (as_numpy(given, what),))


def as_numpy(value: Any, what: str) -> np.ndarray:
    """An array or tensor as a numpy array, not copied where that is possible.

    Raises:
        TaskError: it holds something else than numbers.
    """
    if _is_tensor(value):
        value = value.detach().cpu()
        value = (value.float() if value.dtype.itemsize == 2 and value.dtype.is_floating_point else value).numpy()  # noqa: PLR2004 (bytes: numpy has no bfloat16)
    try:
        array = np.asarray(value)
    except ValueError as error:
        message = f"{what} cannot be made an array: {error}"
        raise TaskError(message) from error
    if array.dtype.kind not in KINDS:
        message = f"{what} has the type {array.dtype}; allowed are real, integer and boolean numbers. {_ALLOWED}"
        raise TaskError(message)
    return array


def narrow(array: np.ndarray) -> np.ndarray:
    """float64 as float32, which is what networks take; anything else unchanged."""
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")  # there are no tensors where torch was never imported
    return torch is not None and isinstance(value, torch.Tensor)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or _is_tensor(value)


def _is_columns(value: Any) -> bool:
    """Whether this is a whole column of inputs, not the first item of a data set that is a list of two."""
    if isinstance(value, Mapping):
        return all(_is_array(each) for each in value.values())
    if isinstance(value, tuple | list):
        return all(_is_array(each) and each.ndim > 0 for each in value)
    return _is_array(value)


def _describe(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
