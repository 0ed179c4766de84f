"""A task that has been looked at: everything that can be known, and be wrong, before anything is computed or published."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.errors import TaskError
from autoopt.records import Signature, digest
from autoopt.task import checks
from autoopt.task.data import Columns, Reader, columns, narrow, open_split
from autoopt.task.identity import code_digest
from autoopt.task.losses import resolve_loss
from autoopt.task.metrics import function_of, resolve_metric
from autoopt.task.scan import Scan, scan_split

if TYPE_CHECKING:
    from autoopt.task.load import LoadedTask
    from autoopt.task.network import Original
    from autoopt.task.task import Task

SCHEMA = 3
"""Raise it when the prepared folder's layout changes."""


@dataclass(frozen=True)
class Draft:
    """A task that has been looked at, on its way into the store."""

    loaded: LoadedTask
    network: Original
    signature: Signature
    readers: Mapping[str, Reader]
    scans: Mapping[str, Scan]
    functions: Mapping[str, Any]
    example_outputs: np.ndarray
    remarks: tuple[str, ...]
    fingerprint: str

    @property
    def task(self) -> Task:
        """As the user wrote it."""
        return self.loaded.task

    @property
    def targets_dtype(self) -> str:
        """By numpy's name."""
        return self.scans["validation"].targets[1]


def look_at(loaded: LoadedTask, folder: Path) -> Draft:
    """Read a task's data once, run its network on a batch, and make its fingerprint.

    Args:
        loaded: of `load_task`.
        folder: where data sets, whose items are made once, are written while they are read.

    Raises:
        TaskError: the network, data, metric, loss or example cannot be used.
    """
    task = loaded.task
    resolve_metric(task.metric)
    if task.student is not None:
        function_of(task.student, "student", ("None",))
    readers = _readers(task)
    sample, _ = readers["validation"].rows(0, 1)
    network, signature = _network(loaded, sample)
    readers = {name: _Ordered(reader, sample.structure, signature, sample.names) for name, reader in readers.items()}
    example_outputs = _try_example(task, network, signature, readers["validation"])
    # A data set's items are made once, so they are written while they are looked at; arrays are read twice for free.
    scans = {name: scan_split(r, None if r.in_memory else folder / name) for name, r in readers.items()}
    resolve_loss(task.loss, scans["validation"].targets[1])
    checks.check_same_samples(scans)
    remarks = (*checks.check_overlap(scans), *_narrowed(readers))
    functions = _functions(task)
    return Draft(
        loaded=loaded,
        network=network,
        signature=signature,
        readers=readers,
        scans=scans,
        functions=functions,
        example_outputs=example_outputs,
        remarks=remarks,
        fingerprint=_fingerprint(loaded, network, signature, scans, functions),
    )


def _readers(task: Task) -> dict[str, Reader]:
    given = {
        "validation": task.validation,
        "test": task.test,
        "train": task.train,
        "calibration": task.calibration,
    }
    if task.validation is task.test:
        message = "validation and test are the same split; the front is confirmed on data that the search never saw"
        raise TaskError(message)
    for name in ("validation", "test"):
        if given[name] is None:
            message = f"the task has no {name} split; give (inputs, targets) or a data set"
            raise TaskError(message)
    return {name: open_split(name, split) for name, split in given.items() if split is not None}


class _Ordered(Reader):
    """A split whose dict inputs are brought into the signature's order, and checked against it."""

    def __init__(self, reader: Reader, structure: str, signature: Signature, names: tuple[str, ...]) -> None:
        self.name, self.length, self.in_memory = reader.name, reader.length, reader.in_memory
        self._reader, self._structure = reader, structure
        by_key = structure == "dict"
        self._names = tuple(spec.name for spec in signature.tensors) if by_key else names

    def rows(self, start: int, stop: int) -> tuple[Columns, np.ndarray]:
        found, targets = self._reader.rows(start, stop)
        return _ordered(found, self._structure, self._names, self.name), targets


def _ordered(found: Columns, structure: str, names: tuple[str, ...], where: str) -> Columns:
    """The inputs in the order of ``names``.

    Raises:
        TaskError: they are others.
    """
    if (found.structure, set(found.names)) != (structure, set(names)):
        message = (
            f"{where} has inputs {', '.join(found.names)} (a {found.structure}); validation has {', '.join(names)} "
            f"(a {structure}). Give the same inputs everywhere."
        )
        raise TaskError(message)
    position = {name: index for index, name in enumerate(found.names)}
    return Columns(structure, names, tuple(found.arrays[position[name]] for name in names))


def _network(loaded: LoadedTask, sample: Columns) -> tuple[Original, Signature]:
    given = loaded.task.network
    if isinstance(given, str | Path):
        from autoopt.task.onnx_file import OnnxOriginal

        path = Path(given) if Path(given).is_file() else loaded.folder / given
        if not path.is_file():
            message = f"there is no file {path}; network is an nn.Module, a function that makes one, or an .onnx file"
            raise TaskError(message)
        onnx_network = OnnxOriginal(path)
        return onnx_network, checks.make_signature(sample, onnx_network.inputs())
    from autoopt.task.network import open_module

    return open_module(given), checks.make_signature(sample, None)


def _try_example(task: Task, network: Original, signature: Signature, validation: Reader) -> np.ndarray:
    sample, _ = validation.rows(0, 1)
    if task.example is not None:
        given = columns(task.example, "the example")
        checks.check_example(given, signature)
        example = _ordered(given, sample.structure, sample.names, "the example")
        checks.check_runs(network, tuple(narrow(array) for array in example.arrays), signature)
    # Two samples, so that a network that mixes up the batch with another axis is found out.
    first = validation.chunk(0, 2)
    return checks.check_runs(network, first.inputs, signature)


def _narrowed(readers: Mapping[str, Reader]) -> tuple[str, ...]:
    sample, targets = readers["validation"].rows(0, 1)
    wide = [name for name, a in zip(sample.names, sample.arrays, strict=True) if a.dtype == np.float64]
    wide += ["targets"] if targets.dtype == np.float64 else []
    return (f"{', '.join(wide)}: float64 was made float32",) if wide else ()


def _functions(task: Task) -> dict[str, Any]:
    given = {"metric": task.metric, "loss": task.loss, "student": task.student}
    return {name: value for name, value in given.items() if value is not None and not isinstance(value, str)}


def _fingerprint(
    loaded: LoadedTask,
    network: Original,
    signature: Signature,
    scans: Mapping[str, Scan],
    functions: Mapping[str, Any],
) -> str:
    runtime = "torch" if network.format == "module" else "onnxruntime"
    return digest(
        {
            "schema": SCHEMA,
            "name": loaded.task.name,
            "network": network.identity(),
            "signature": signature,
            "splits": {name: scan.digest for name, scan in scans.items()},
            "names": [value for value in (loaded.task.metric, loaded.task.loss) if isinstance(value, str)],
            "functions": {name: code_digest(value) for name, value in functions.items()},
            # Some classes are pickled by reference to the user's files: another place is another task.
            "imports": loaded.imports,
            "reference": f"{runtime} {importlib.metadata.version(runtime)}",
        }
    )
