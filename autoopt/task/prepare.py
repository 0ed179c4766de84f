"""Checks a task and writes it into the store, once: everything after works on the prepared folder.

The folder's key is the task's fingerprint, a digest of all data, of the network's structure and weights, and of the user's functions.
So the same task is prepared once on a machine, and whatever was computed for another task is never taken for this one's.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from autoopt.records import to_json
from autoopt.task import checks
from autoopt.task.carried import carried, write_code
from autoopt.task.data import Chunk
from autoopt.task.draft import Draft, look_at
from autoopt.task.losses import loss_name, resolve_loss
from autoopt.task.metrics import resolve_metric
from autoopt.task.network import BATCH
from autoopt.task.prepared import MANIFEST, SEED, Arrays, Manifest, PreparedTask, write_outputs
from autoopt.task.scan import SplitWriter, write_split

if TYPE_CHECKING:
    from autoopt.task.load import LoadedTask

logger = logging.getLogger(__name__)

CALIBRATION = 512
"""Samples of the default calibration split."""
JUDGE_S, SLOW, JUDGED_AT_LEAST = 10.0, 2.0, 500
"""Judging a candidate as slow as the original is brought down to so long where it would take twice as long or more; but fewer
validation samples would tell nothing apart."""
TIMED_BATCH, CALLS, CALLS_AT_LEAST, CALLS_S = 32, 10, 2, 1.0
"""To find out how long the original network takes: by batches, as a network that can take them is judged."""


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
        draft = look_at(loaded, folder)
        with store.lock(draft.fingerprint):
            found = store.get(draft.fingerprint)
            if found is None:
                _write(draft, folder, progress)
                found = store.publish(draft.fingerprint, folder)
    prepared = PreparedTask.open(found)
    for remark in prepared.remarks:
        logger.info("task %s: %s", prepared.name, remark)
    return prepared


def _write(draft: Draft, folder: Path, progress: Callable[[str], None]) -> None:
    for name, reader in draft.readers.items():
        if reader.in_memory:
            progress(f"writing {name}: {reader.length} samples")
            write_split(reader, folder / name)
    order = np.random.default_rng(SEED).permutation(draft.scans["train"].length) if "train" in draft.scans else None
    if order is not None:
        np.save(folder / "train" / "order.npy", order)
    splits = {name: scan.length for name, scan in draft.scans.items()}
    inputs = len(draft.signature.tensors)
    if "calibration" not in splits:
        splits["calibration"] = _write_calibration(folder, inputs, order)
    write_code(draft, folder)
    first = tuple(array[: len(draft.example_outputs)] for array in _read(folder / "validation", inputs).inputs)
    with carried(draft, folder, first):
        sample_ms = _sample_ms(draft, folder)
        splits["validation"], remarks = _thin_out(draft, folder, sample_ms)
        score = _write_reference(draft, folder, progress)
    manifest = _manifest(draft, splits, score, sample_ms, remarks)
    (folder / MANIFEST).write_text(json.dumps(to_json(manifest), indent=1))


def _write_calibration(folder: Path, inputs: int, order: np.ndarray | None) -> int:
    source = folder / ("validation" if order is None else "train")
    arrays = _read(source, inputs)
    if order is None:
        order = np.random.default_rng(SEED).permutation(len(arrays.targets))
    chosen = np.sort(order[:CALIBRATION])
    _write_rows(arrays, chosen, folder / "calibration")
    return len(chosen)


def _sample_ms(draft: Draft, folder: Path) -> float:
    """What one sample takes the original network in a batch, roughly: how much judging costs follows from it."""
    arrays = _read(folder / "validation", len(draft.signature.tensors))
    sample = tuple(np.array(array[:TIMED_BATCH]) for array in arrays.inputs)
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < CALLS and (len(taken) < CALLS_AT_LEAST or time.perf_counter() - began < CALLS_S):
        start = time.perf_counter()
        draft.network.run(sample, draft.signature)
        taken.append(time.perf_counter() - start)
    return 1000 * min(taken) / len(sample[0])


def _thin_out(draft: Draft, folder: Path, sample_ms: float) -> tuple[int, tuple[str, ...]]:
    """Keep so many validation samples, drawn at random, as can be judged in a reasonable time."""
    inputs = len(draft.signature.tensors)
    size = draft.scans["validation"].length
    if size <= JUDGED_AT_LEAST or size * sample_ms / 1000 <= SLOW * JUDGE_S:
        return size, ()
    kept = min(size, max(JUDGED_AT_LEAST, int(1000 * JUDGE_S / sample_ms)))
    source, thinned = folder / "validation", folder / "thinned"
    arrays = _read(source, inputs)
    _write_rows(arrays, np.sort(np.random.default_rng(SEED).permutation(size)[:kept]), thinned)
    shutil.rmtree(source)
    thinned.rename(source)
    remark = (
        f"The search judges by {kept:,} of the {size:,} validation samples, drawn at random: the network takes "
        f"{sample_ms:.0f} ms a sample."
    )
    return kept, (remark,)


def _write_rows(arrays: Arrays, rows: np.ndarray, folder: Path) -> None:
    """A split of some rows of another."""
    with SplitWriter(folder, len(rows)) as writer:
        writer.add(Chunk(tuple(array[rows] for array in arrays.inputs), arrays.targets[rows]))


def _write_reference(draft: Draft, folder: Path, progress: Callable[[str], None]) -> float:
    arrays = _read(folder / "validation", len(draft.signature.tensors))
    _check_classes(draft)
    path = folder / "outputs" / "validation.npy"
    write_outputs(draft.network, arrays, draft.signature, path, progress)
    outputs = np.load(path, mmap_mode="r")
    checks.check_outputs(outputs)
    if _trains(draft):
        loss = resolve_loss(draft.task.loss, draft.targets_dtype)
        checks.check_loss(loss, outputs[:BATCH], arrays.targets[:BATCH])
    return checks.check_score(resolve_metric(draft.task.metric), outputs, arrays.targets)


def _check_classes(draft: Draft) -> None:
    """Before the network runs over the whole split."""
    metric, loss = draft.task.metric, draft.task.loss
    by_name = loss_name(loss, draft.targets_dtype) if isinstance(loss, str) and _trains(draft) else ""
    checks.check_classes(draft.scans, draft.example_outputs, metric if isinstance(metric, str) else "", by_name)


def _trains(draft: Draft) -> bool:
    return "train" in draft.scans and draft.network.format == "module"


def _read(folder: Path, inputs: int) -> Arrays:
    found = tuple(np.load(folder / f"input_{index}.npy", mmap_mode="r") for index in range(inputs))
    return Arrays(found, np.load(folder / "targets.npy", mmap_mode="r"))


def _manifest(
    draft: Draft, splits: Mapping[str, int], score: float, sample_ms: float, remarks: tuple[str, ...]
) -> Manifest:
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
        sample_ms=sample_ms,
        imports=draft.loaded.imports,
        remarks=(*draft.remarks, *remarks),
    )
