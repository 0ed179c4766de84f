"""Run one stage: answer from the store, or compute in a process of its own and publish.

A failure that would come again (the engine cannot take this network) is published too, so that a resumed or repeated
job does not pay for it twice; a transient one is not.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoopt import engine_environments
from autoopt.errors import EngineError, FailureKind, StageError, StoreError
from autoopt.records import StageRun, to_json
from autoopt.workers import process
from autoopt.workers.engines import engine as engine_named
from autoopt.workers.node import Cores, Node
from autoopt.workers.process import Limits, Preload, system
from autoopt.workers.stages.run import FACTS, Work, write_request
from autoopt.workers.stages.setup import Setup
from autoopt.workers.stages.stage import Role, Stage
from autoopt.workers.store.base import Store

FAILURE = "failure.json"
TIMELINE = "stages.jsonl"
# What a stage's parent process has imported already, so that the stage's own process starts at once. Training and measuring have
# one parent, which lends the lane's cores to a training while nothing is measured; what is measured has no build tool in memory.
# The first optimizer of a process imports Dynamo, which takes a second.
_OURS = "autoopt.workers.stages.preload"
_RUNNING = Preload(("numpy", "torch", _OURS), ("onnxruntime", "openvino", "torch._dynamo"))
_BUILDING = Preload(("numpy", "torch", "onnxruntime", _OURS), ("onnx", "openvino", "nncf"))
PRELOAD = {Role.TRAINER: _RUNNING, Role.LANE: _RUNNING, Role.BUILDER: _BUILDING, Role.FINISHER: _BUILDING}
MEMORY_SHARE, DISK_SHARE = 0.8, 0.5
"""What a stage may use of its node's memory, and of what is free on the store's disk: what it takes beyond that, others miss."""
LEAST_DISK_BYTES = 1_000_000_000
"""Where less than twice that is free, it is the disk that is too small."""
_REPEATABLE = frozenset({FailureKind.UNSUPPORTED, FailureKind.DISAGREEMENT, FailureKind.DIVERGED})

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a stage left: what it cost, and its facts."""

    run: StageRun
    facts: dict[str, Any]


def find(stage: Stage, store: Store) -> Result | None:
    """The stage's result where the store has it.

    Raises:
        StageError: the store remembers that this stage fails.
    """
    folder = store.get(stage.key)
    if folder is None:
        return None
    failure = folder / FAILURE
    if failure.exists():
        told = json.loads(failure.read_text())
        raise StageError(FailureKind(told["kind"]), told["message"], told["log"])
    facts = json.loads((folder / FACTS).read_text())
    return Result(StageRun(stage.kind, stage.name, stage.key, True, time.time(), 0.0, socket.gethostname()), facts)  # noqa: FBT003


def execute(stage: Stage, setup: Setup, store: Store, logs: Path, node: Node) -> Result:
    """The stage's result, computed here unless the store has it. The caller holds the stage's lock.

    Args:
        stage: to run.
        setup: the job's.
        store: the job's.
        logs: a folder for what the stage prints.
        node: this one.

    Raises:
        StageError: the stage failed.
        StoreError: the store cannot be read or written.
    """
    found = find(stage, store)
    if found is not None:
        return found
    parents = tuple(_parent(key, store) for key in stage.parents)
    cores, spare = _cores(stage.role, node.cores)
    threads = node.cores.train_threads if stage.role is Role.TRAINER else 1
    started_at, clock = time.time(), time.monotonic()
    with store.scratch() as out:
        work = Work(stage.name, dict(stage.params), parents, out, threads, cores, node.cores.work)
        limits = Limits(
            timeout_s=stage.timeout_s,
            memory_bytes=setup.memory_bytes or round(MEMORY_SHARE * system.memory_bytes()),
            disk_bytes=setup.disk_bytes or max(LEAST_DISK_BYTES, round(DISK_SHARE * shutil.disk_usage(out).free)),
            folders=(str(out),),
            cores=cores,
            exclusive=stage.role is Role.LANE,
            spare=spare,
            background=stage.role is Role.BUILDER,
            threads=threads,
        )
        log = log_of(stage, logs)
        try:
            preload = _preload(stage, setup)
            facts = process.call(
                "autoopt.workers.stages.run:run", write_request(stage.kind, work), limits, preload, log
            )
        except StageError as error:
            _remember(stage, error, store)
            raise
        store.publish(stage.key, out)
    seconds = time.monotonic() - clock
    return Result(StageRun(stage.kind, stage.name, stage.key, False, started_at, seconds, socket.gethostname()), facts)  # noqa: FBT003


def _preload(stage: Stage, setup: Setup) -> Preload:
    """The warmed parent's modules: in the engine's own environment where it has one.

    Raises:
        StageError: INTERRUPTED where it has to be installed first, and cannot be.
    """
    if stage.engine is None:
        return PRELOAD[stage.role]
    if stage.engine in setup.install_engines:
        try:
            engine_environments.install_missing(stage.engine, logger.info)
        except EngineError as error:
            raise StageError(FailureKind.INTERRUPTED, str(error)) from error
    if engine_environments.find(stage.engine) is None:
        return PRELOAD[stage.role]
    return Preload(("numpy", *engine_named(stage.engine).preload), engine=stage.engine)


def log_of(stage: Stage, logs: Path) -> Path:
    """The file for what a stage prints."""
    return logs / f"{stage.kind}-{stage.name}-{stage.key[:12]}.log"


def _cores(role: Role, cores: Cores) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A role's own cores, and those that it gets while nothing is measured on them."""
    return {
        Role.LANE: (cores.lane, ()),
        Role.TRAINER: (cores.work, cores.lane),
        Role.BUILDER: (cores.every, ()),
        Role.FINISHER: (cores.work, ()),
    }[role]


def note(run: StageRun, logs: Path) -> None:
    """A line a stage that was computed: the job's time line. A short line is appended whole, or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    if run.cached:
        return
    path = logs / TIMELINE
    try:
        _append(path, json.dumps(to_json(run)).encode() + b"\n")
    except OSError as error:
        message = (
            f"the job's time line {path} cannot be written: {error.strerror}; see that it can, then resume the job"
        )
        raise StoreError(message) from error


def _append(path: Path, line: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        if file.write(line) != len(line):
            file.truncate(before)  # the next line must not be glued to half of this one
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _parent(key: str, store: Store) -> Path:
    folder = store.get(key)
    if folder is None:
        message = f"the store lost {key[:12]}, which a stage builds on; run the job again to make it anew."
        raise StageError(FailureKind.INTERRUPTED, message)
    return folder


def _remember(stage: Stage, error: StageError, store: Store) -> None:
    if error.kind not in _REPEATABLE:
        return
    with store.scratch() as out:
        told = {"kind": error.kind, "message": error.message, "log": error.log}
        (out / FAILURE).write_text(json.dumps(told))
        try:
            store.publish(stage.key, out)
        except StoreError:
            # The stage's own error is what the caller must hear of; it will fail again, that is all.
            logger.warning("could not record the failure of %s", stage.label)
