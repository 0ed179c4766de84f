"""A prepared task: a folder that any process can open at once, without the user's code or torch.

::

    task.json                      what it is
    <split>/input_<i>.npy          (N, ...), memory-mapped
    <split>/targets.npy
    train/order.npy                a fixed permutation
    outputs/validation.npy         the original network's
    network/                       the original network
    functions.pkl                  the user's metric, loss and student, where they are functions
"""

from __future__ import annotations

import json
import os
import pickle
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.errors import StoreError, TaskError
from autoopt.records import Signature, from_json
from autoopt.task.imports import Imports
from autoopt.task.losses import Loss, resolve_loss
from autoopt.task.metrics import Metric, resolve_metric
from autoopt.task.network import BATCH, ModuleOriginal, Original
from autoopt.task.onnx_file import OnnxOriginal
from autoopt.task.scan import NpyWriter

if TYPE_CHECKING:
    from torch import nn

SEED = 0
MANIFEST = "task.json"
NETWORK, FUNCTIONS = "network", "functions.pkl"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Manifest:
    """What stands in ``task.json``."""

    name: str
    fingerprint: str
    signature: Signature
    splits: Mapping[str, int]
    source_format: str
    metric: str
    loss: str
    functions: tuple[str, ...]
    """Which of metric, loss and student are in ``functions.pkl``."""
    targets_dtype: str
    reference_score: float
    sample_ms: float
    """What one sample takes the original network, roughly, where it was prepared."""
    imports: Imports
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arrays:
    """A split. inputs: (N, ...) each, in the signature's order; targets: (N, ...). Memory-mapped, read-only."""

    inputs: tuple[np.ndarray, ...]
    targets: np.ndarray


@dataclass(frozen=True)
class TaskSource:
    """The original network on disk, with the fields of `autoopt.workers.engines.base.Source`."""

    format: str
    path: Path
    signature: Signature


@dataclass(frozen=True)
class PreparedTask:
    """A task whose data, network and reference outputs lie in a folder. Opens in milliseconds."""

    folder: Path
    manifest: Manifest
    runs_code: bool = field(default=True, compare=False)
    """Whether the user's code may be imported in this process."""
    _cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def open(cls, folder: Path, *, code: bool = True) -> PreparedTask:
        """Open what `prepare` has written.

        Args:
            folder: in the store.
            code: make the user's code importable (none of it is run). A client that only reads results says no: the folder, and
                what it says of where code is, may be from a store that others write to.

        Raises:
            StoreError: the folder holds no prepared task.
        """
        try:
            manifest = from_json(Manifest, json.loads((folder / MANIFEST).read_text()))
        except (OSError, ValueError) as error:
            message = f"{folder} is no prepared task: {error}. Start the job again; the task is then prepared anew."
            raise StoreError(message) from error
        if code:
            manifest.imports.enable()
        return cls(Path(folder), manifest, code)

    def __reduce__(self) -> tuple[Any, ...]:
        # In another process the user's code has to be made importable again.
        return (PreparedTask.open, (self.folder,))

    @property
    def name(self) -> str:
        """For reports."""
        return self.manifest.name

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits: a digest of data, network, metric, loss and student."""
        return self.manifest.fingerprint

    @property
    def signature(self) -> Signature:
        """The network's inputs."""
        return self.manifest.signature

    @property
    def splits(self) -> Mapping[str, int]:
        """The samples in each split there is: validation, test, calibration and perhaps train."""
        return self.manifest.splits

    @property
    def source_format(self) -> str:
        """The original network's format: "module" or "onnx"."""
        return self.manifest.source_format

    @property
    def source(self) -> TaskSource:
        """The original network."""
        return TaskSource(self.source_format, self.folder / NETWORK, self.signature)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was noticed about the task but is no error, a sentence each."""
        return self.manifest.remarks

    @property
    def reference_score(self) -> float:
        """The original network's score on validation."""
        return self.manifest.reference_score

    @property
    def sample_ms(self) -> float:
        """What one sample takes the original network, roughly, in milliseconds."""
        return self.manifest.sample_ms

    @property
    def reference_outputs(self) -> np.ndarray:
        """The original network's outputs on validation, (N, ...)."""
        return self.outputs_of_original("validation")

    @property
    def training_order(self) -> np.ndarray:
        """int64, (N,): a fixed permutation of train. Raises TaskError where there is no train split."""
        self._check_has("train")
        return _mapped(self.folder / "train" / "order.npy")

    def has(self, split: str) -> bool:
        """Whether the task has that split."""
        return split in self.splits

    def arrays(self, split: str) -> Arrays:
        """The samples of a split. "test" is for confirmation only.

        Raises:
            TaskError: the task has no such split.
        """
        self._check_has(split)
        folder = self.folder / split
        inputs = tuple(_mapped(folder / f"input_{index}.npy") for index in range(len(self.signature.tensors)))
        return Arrays(inputs, _mapped(folder / "targets.npy"))

    def drawn(self, split: str, samples: int | None = None) -> Arrays:
        """So many samples of a split, drawn at random but always the same ones; all where ``samples`` is None."""
        arrays = self.arrays(split)
        if samples is None or samples >= len(arrays.targets):
            return arrays
        rows = self._rows(split, samples)
        return Arrays(tuple(array[rows] for array in arrays.inputs), arrays.targets[rows])

    def outputs_of_original(
        self, split: str, samples: int | None = None, progress: Progress = lambda _: None
    ) -> np.ndarray:
        """The original network's outputs on a split, or on those `drawn` of it, (N, ...): computed when first asked for.

        Raises:
            TaskError: the task has no such split.
        """
        self._check_has(split)
        if samples is not None and samples >= self.splits[split]:
            samples = None
        path = self.folder / "outputs" / f"{split}.npy"
        if samples is not None and path.exists():
            drawn: np.ndarray = _mapped(path)[self._rows(split, samples)]
            return drawn
        if samples is not None:
            path = path.with_stem(f"{split}-{samples}")
        if not path.exists():
            part = path.with_suffix(f".{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
            write_outputs(self.open_original(), self.drawn(split, samples), self.signature, part, progress)
            part.rename(path)  # whole or not at all; two that compute it write the same
        return _mapped(path)

    def _rows(self, split: str, samples: int) -> np.ndarray:
        return np.sort(np.random.default_rng(SEED).permutation(self.splits[split])[:samples])

    def open_original(self) -> Original:
        """The original network in memory."""
        self._check_code()
        kind = ModuleOriginal if self.source_format == "module" else OnnxOriginal
        return kind.open(self.folder / NETWORK)

    @property
    def metric_name(self) -> str:
        """The metric's, for people. Runs none of the user's code, as clients must not."""
        return self.manifest.metric

    @cached_property
    def metric(self) -> Metric:
        """The metric; imports the user's code where it is a function."""
        return resolve_metric(self._function("metric") or self.manifest.metric)

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """See `Metric.score`."""
        return self.metric.score(outputs, targets)

    def per_sample(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
        """See `Metric.per_sample`."""
        return self.metric.per_sample(outputs, targets)

    @property
    def loss(self) -> Loss:
        """A function of tensors (outputs, targets) -> scalar."""
        return resolve_loss(self._function("loss") or self.manifest.loss, self.manifest.targets_dtype)

    @property
    def student(self) -> Callable[..., nn.Module] | None:
        """The user's factory of smaller networks, if there is one."""
        return self._function("student")

    def _function(self, name: str) -> Callable[..., Any] | None:
        """One of the user's; None where there is none of that name, and then none of his code is imported."""
        if name not in self.manifest.functions:
            return None
        if not self._cache:
            self._check_code()
            self._cache.update(pickle.loads((self.folder / FUNCTIONS).read_bytes()))
        found: Callable[..., Any] = self._cache[name]
        return found

    def _check_code(self) -> None:
        if not self.runs_code:
            message = f"the task {self.name!r} was opened to be read only: its network and functions are code, for the job's own processes"
            raise TaskError(message)

    def _check_has(self, split: str) -> None:
        if not self.has(split):
            message = f"the task {self.name!r} has no split {split!r}; it has {', '.join(self.splits)}"
            raise TaskError(message)


def write_outputs(
    network: Original, arrays: Arrays, signature: Signature, path: Path, progress: Progress = lambda _: None
) -> None:
    """Run the network over a split and write its first output, (N, ...), as .npy."""
    count = len(arrays.targets)
    with NpyWriter(path, count) as file:
        for start in range(0, count, BATCH):
            batch = tuple(array[start : start + BATCH] for array in arrays.inputs)
            file.add(network.run(batch, signature))
            if (start // BATCH) % 10 == 9:  # noqa: PLR2004 (every tenth batch)
                progress(f"outputs of the original network: {min(start + BATCH, count)} of {count} samples")


def _mapped(path: Path) -> np.ndarray:
    array: np.ndarray = np.load(path, mmap_mode="r")
    return array
