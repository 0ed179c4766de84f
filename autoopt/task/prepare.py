"""Checks a task and writes it into the store, once: everything after works on the prepared folder.

The folder's key is the task's fingerprint, a digest of all data, of the network's structure and weights, and of the user's functions.
So the same task is prepared once on a machine, and whatever was computed for another task is never taken for this one's.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import pickle
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from autoopt.errors import TaskError
from autoopt.records import Signature, digest, to_json
from autoopt.task import checks
from autoopt.task.data import Chunk, Columns, Reader, columns, open_split
from autoopt.task.identity import code_digest
from autoopt.task.losses import loss_name, resolve_loss
from autoopt.task.metrics import function_of, resolve_metric
from autoopt.task.prepared import FUNCTIONS, MANIFEST, Arrays, Manifest, PreparedTask, write_outputs
from autoopt.task.scan import Scan, SplitWriter, scan_split, write_split

if TYPE_CHECKING:
    from autoopt.task.load import LoadedTask
    from autoopt.task.network import Original
    from autoopt.task.task import Task

logger = logging.getLogger(__name__)

SCHEMA = 1
"""Raise it when the prepared folder's layout changes."""
CALIBRATION = 512
"""Samples of the default calibration split."""
SEED = 0


class ArtifactStore(Protocol):
    """What `prepare` needs of a store; see `autoopt.workers.store.base.Store`."""

    def get(self, key: str) -> Path | None:
        """The folder under the key, or None."""

    def publish(self, key: str, folder: Path) -> Path:
        """Move a finished folder into the store."""

    def scratch(self) -> AbstractContextManager[Path]:
        """An empty folder."""

    def lock(self, key: str) -> AbstractContextManager[None]:
        """Hold the right to compute the key."""


@dataclass(frozen=True)
class _Draft:
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
        return self.loaded.task

    @property
    def targets_dtype(self) -> str:
        return self.scans["validation"].targets[1]


def prepare(
    loaded: LoadedTask, store: ArtifactStore, *, progress: Callable[[str], None] = lambda _: None
) -> PreparedTask:
    """Check everything about a task and write it into the store; at once where the store has it.

    Args:
        loaded: of `load_task`.
        store: keeps the folder, under the task's fingerprint.
        progress: told a line now and then.

    Raises:
        TaskError: the network, data, metric, loss or example cannot be used.
        StoreError: the disk is full, or may not be written.
    """
    with store.scratch() as folder:
        progress("reading the task's data")
        draft = _draft(loaded, folder)
        with store.lock(draft.fingerprint):
            found = store.get(draft.fingerprint)
            if found is None:
                _write(draft, folder, progress)
                found = store.publish(draft.fingerprint, folder)
    prepared = PreparedTask.open(found)
    for remark in prepared.remarks:
        logger.info("task %s: %s", prepared.name, remark)
    return prepared


def _draft(loaded: LoadedTask, folder: Path) -> _Draft:
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
    return _Draft(
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
        return ordered(found, self._structure, self._names, self.name), targets


def ordered(found: Columns, structure: str, names: tuple[str, ...], where: str) -> Columns:
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
        example = ordered(given, sample.structure, sample.names, "the example")
        checks.check_runs(network, tuple(np.asarray(array) for array in _chunk(example)), signature)
    # Two samples, so that a network that mixes up the batch with another axis is found out.
    first = validation.chunk(0, 2)
    return checks.check_runs(network, first.inputs, signature)


def _chunk(example: Columns) -> tuple[np.ndarray, ...]:
    from autoopt.task.data import narrow

    return tuple(narrow(array) for array in example.arrays)


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
            # Classes are pickled by reference to the user's files: another place is another task.
            "imports": loaded.imports,
            "reference": f"{runtime} {importlib.metadata.version(runtime)}",
        }
    )


def _write(draft: _Draft, folder: Path, progress: Callable[[str], None]) -> None:
    for name, reader in draft.readers.items():
        if reader.in_memory:
            progress(f"writing {name}: {reader.length} samples")
            write_split(reader, folder / name)
    order = np.random.default_rng(SEED).permutation(draft.scans["train"].length) if "train" in draft.scans else None
    if order is not None:
        np.save(folder / "train" / "order.npy", order)
    splits = {name: scan.length for name, scan in draft.scans.items()}
    if "calibration" not in splits:
        splits["calibration"] = _write_calibration(folder, len(draft.signature.tensors), order)
    draft.network.save(folder / "network")
    _write_functions(draft.functions, folder)
    score = _write_reference(draft, folder, progress)
    manifest = _manifest(draft, splits, score)
    (folder / MANIFEST).write_text(json.dumps(to_json(manifest), indent=1))


def _write_calibration(folder: Path, inputs: int, order: np.ndarray | None) -> int:
    source = folder / ("validation" if order is None else "train")
    arrays = _read(source, inputs)
    if order is None:
        order = np.random.default_rng(SEED).permutation(len(arrays.targets))
    chosen = np.sort(order[:CALIBRATION])
    with SplitWriter(folder / "calibration", len(chosen)) as writer:
        writer.add(Chunk(tuple(array[chosen] for array in arrays.inputs), arrays.targets[chosen]))
    return len(chosen)


def _write_functions(functions: Mapping[str, Any], folder: Path) -> None:
    if not functions:
        return
    import cloudpickle

    try:
        (folder / FUNCTIONS).write_bytes(cloudpickle.dumps(dict(functions)))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        message = (
            f"{', '.join(functions)}: cannot be handed to another process: {error}. Write them as plain functions "
            "of a file, without open files or locks in what they refer to."
        )
        raise TaskError(message) from error


def _write_reference(draft: _Draft, folder: Path, progress: Callable[[str], None]) -> float:
    arrays = _read(folder / "validation", len(draft.signature.tensors))
    metric, loss = draft.task.metric, draft.task.loss
    checks.check_classes(
        draft.scans,
        draft.example_outputs,
        metric if isinstance(metric, str) else "",
        loss_name(loss, draft.targets_dtype) if isinstance(loss, str) and "train" in draft.scans else "",
    )
    path = folder / "outputs" / "validation.npy"
    write_outputs(draft.network, arrays, draft.signature, path, progress)
    outputs = np.load(path, mmap_mode="r")
    checks.check_outputs(outputs)
    return checks.check_score(resolve_metric(metric), outputs, arrays.targets)


def _read(folder: Path, inputs: int) -> Arrays:
    found = tuple(np.load(folder / f"input_{index}.npy", mmap_mode="r") for index in range(inputs))
    return Arrays(found, np.load(folder / "targets.npy", mmap_mode="r"))


def _manifest(draft: _Draft, splits: Mapping[str, int], score: float) -> Manifest:
    task = draft.task
    return Manifest(
        name=task.name,
        fingerprint=draft.fingerprint,
        signature=draft.signature,
        splits=splits,
        source_format=draft.network.format,
        metric=resolve_metric(task.metric).name,
        loss=task.loss if isinstance(task.loss, str) else "function",
        functions=tuple(draft.functions),
        targets_dtype=draft.targets_dtype,
        reference_score=score,
        imports=draft.loaded.imports,
        remarks=draft.remarks,
    )
