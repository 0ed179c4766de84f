"""Write a config as a bundle: a folder that runs without the half of autoopt that searched for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from autoopt.bundle import checksums, fresh, manifest, own, readme
from autoopt.bundle.manifest import ARTIFACT, EXPECTED, MANIFEST, README, Manifest
from autoopt.engine_environments import version
from autoopt.errors import BundleError
from autoopt.records import to_json
from autoopt.workers.engines import engine as engine_named

if TYPE_CHECKING:
    from autoopt.front import Config
    from autoopt.task import PreparedTask

SAMPLES = 48
"""Validation samples whose outputs are recorded."""


Recorder: TypeAlias = Callable[[Path], None]
"""Runs the expected inputs through a bundle's artifact, and writes the expected outputs: see `fresh.record`."""


def export(
    config: Config,
    artifact: Path,
    task: PreparedTask,
    out: Path,
    *,
    facts: Mapping[str, Any],
    smaller: Mapping[str, Path] = MappingProxyType({}),
    record: Recorder = fresh.record,
) -> Path:
    """Write a bundle into the folder ``out``, atomically: a reader finds a whole bundle or none.

    An older bundle there is replaced, and left alone where it is the same one.

    Args:
        config: what is deployed.
        artifact: the folder that its engine loads.
        task: for the signature, and for the samples whose outputs are recorded.
        out: the folder to write.
        facts: how it was made, as JSON values; "job", "task" and "reference" (in words) are shown to people.
        smaller: such folders for smaller batches, by their size.
        record: runs the artifact, which may be possible on another machine only.

    Returns:
        ``out``.

    Raises:
        BundleError: ``out`` is something else than a bundle, or the artifact does not run.
    """
    _check_replaceable(out)
    made = _manifest(config, task, facts)
    code = engine_named(config.candidate.deployment.engine).trusted_only
    if _is_there(made, out) and (own.is_own(out) or not code):
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        staged = Path(folder) / "new"
        _write(staged, made, {ARTIFACT: artifact} | {made.smaller[size]: each for size, each in smaller.items()}, task)
        record(staged)
        (staged / README).write_text(readme.render(made), encoding="utf-8")
        checksums.write(staged)
        if code:
            own.remember(staged)
        _replace(staged, out, Path(folder) / "old")
    return out


def _write(staged: Path, made: Manifest, artifacts: Mapping[str, Path], task: PreparedTask) -> None:
    # The store's own notes (facts, checksums) are no part of an artifact; an engine never reads them.
    for name, artifact in artifacts.items():
        shutil.copytree(artifact, staged / name, ignore=shutil.ignore_patterns(".*", "facts.json"))
    (staged / EXPECTED).mkdir()
    for index, array in enumerate(_samples(task)):
        np.save(staged / EXPECTED / f"inputs_{index}.npy", array)
    manifest.write(made, staged)


def _manifest(config: Config, task: PreparedTask, facts: Mapping[str, Any]) -> Manifest:
    engine = engine_named(config.candidate.deployment.engine)
    measured_with = config.validation.environment.packages
    return Manifest(
        candidate=config.candidate,
        signature=task.signature,
        metric=task.metric_name,
        validation=config.validation,
        test=config.test,
        packages={name: measured_with.get(name) or version(name, engine.name) or "absent" for name in engine.packages},
        autoopt=metadata.version("autoopt"),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        facts=to_json(facts),
        smaller={size: f"{ARTIFACT}-{size}" for size in config.smaller},
        imports=to_json(task.manifest.imports) if engine.trusted_only else {},
    )


def _samples(task: PreparedTask) -> tuple[np.ndarray, ...]:
    """Validation samples spread over the whole split, which may be sorted by class."""
    inputs = task.arrays("validation").inputs
    chosen = np.unique(np.linspace(0, len(inputs[0]) - 1, SAMPLES).astype(int))
    return tuple(np.ascontiguousarray(array[chosen]) for array in inputs)


def _check_replaceable(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        message = f"{out} is a file or a link; name a folder for the bundle that does not exist yet"
        raise BundleError(message)
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        message = f"{out} holds something that is not a bundle, and is left alone; name another folder"
        raise BundleError(message)


def _is_there(made: Manifest, out: Path) -> bool:
    if not (out / MANIFEST).is_file():
        return False
    try:
        checksums.check(out)
        there = manifest.read(out)
    except BundleError:
        return False  # a damaged bundle is replaced
    return bool(to_json(replace(there, created_at=made.created_at)) == to_json(made))


def _replace(staged: Path, out: Path, grave: Path) -> None:
    """Two renames: between them there is no bundle, but never half of one."""
    if out.exists():
        out.rename(grave)
    staged.rename(out)
