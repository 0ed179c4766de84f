"""The process that serves one artifact while it is measured.

It is forked from the measuring process before any engine is loaded, is pinned to the lane's cores, opens the artifact with the
deployment's threads, and answers commands on a pipe: load, run a burst of calls, predict, tell what really ran.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.errors import FailureKind, StageError
from autoopt.records import Effective, Signature
from autoopt.workers.engines import engine as engine_named
from autoopt.workers.engines.base import Session
from autoopt.workers.measure.attend import Attended, attend
from autoopt.workers.measure.records import ServedArtifact
from autoopt.workers.measure.requests import Descriptors, RequestQueue
from autoopt.workers.process import system
from autoopt.workers.process.child import THREAD_VARIABLES

Inputs = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Loaded:
    """What opening an artifact cost."""

    load_s: float
    first_ms: float


@dataclass(frozen=True)
class Burst:
    """Some calls in a row."""

    times_ns: np.ndarray
    """int64, (calls,): of each call but the first ones, which warmed the caches."""
    wall_ns: int
    cpu_ns: int
    """Of all threads of the process."""
    switches: int
    """How often the scheduler took the processor away."""
    at_once: int = 1
    """Calls that were under way at any time, in streams and instances."""

    @property
    def call_ns(self) -> float:
        """What a call took of the machine's time: the median, less what others did meanwhile."""
        return float(np.median(self.times_ns)) / self.at_once


def together(bursts: Sequence[Burst]) -> Burst:
    """Bursts of several instances that ran at the same time, as one."""
    return Burst(
        times_ns=np.concatenate([burst.times_ns for burst in bursts]),
        wall_ns=max(burst.wall_ns for burst in bursts),
        cpu_ns=sum(burst.cpu_ns for burst in bursts),
        switches=sum(burst.switches for burst in bursts),
        at_once=sum(burst.at_once for burst in bursts),
    )


@dataclass(frozen=True)
class Serving:
    """What to serve, and on what."""

    artifact: ServedArtifact
    signature: Signature
    cores: tuple[int, ...]
    batches: tuple[Inputs, ...]
    """Real samples, several different batches, for timing."""
    at_once: bool = False
    """Whether an engine's streams are used: where requests come one after the other there is nothing to run at once."""
    queue: Descriptors | None = None
    """Where a server's requests arrive."""


def serve(serving: Serving, pipe: Connection, parent: int) -> None:
    """Answer commands until the pipe closes. Runs in a process of its own."""
    system.die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, serving.cores)
    threads = serving.artifact.deployment.threads
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    gc.disable()  # its pauses are Python's, not the artifact's
    server = _Server(serving)
    while True:
        try:
            command, arguments, named = pipe.recv()
        except EOFError:
            return
        try:
            answer: Any = getattr(server, command)(*arguments, **named)
        except StageError as error:
            answer = error
        except Exception as error:  # noqa: BLE001 (the process's boundary: a failure becomes a value)
            traceback.print_exc()
            text = " ".join(str(error).split())[:500]
            answer = StageError(FailureKind.ERROR, f"{command}: {type(error).__name__}: {text}")
        pipe.send(answer)


class _Server:
    """The commands."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._session: Session | None = None
        self._smaller: dict[int, Session] = {}
        self._next = 0
        self._resident_before = _memory("VmRSS")
        self._thread_ns: dict[int, int] = {}

    def load(self) -> Loaded:
        artifact = self._serving.artifact
        start = time.perf_counter()
        engine = engine_named(artifact.engine)
        self._session = engine.load(artifact.folder, artifact.deployment, self._serving.signature)
        loaded = time.perf_counter()
        self._session(self._serving.batches[0])
        first_ms = (time.perf_counter() - loaded) * 1e3
        for size, folder in artifact.smaller.items():
            small = replace(artifact.deployment, batch=int(size))
            self._smaller[int(size)] = engine.load(Path(folder), small, self._serving.signature)
            self._smaller[int(size)](tuple(array[: int(size)] for array in self._serving.batches[0]))
        return Loaded(loaded - start, first_ms)

    def warm(self, seconds: float) -> float:
        """Call for so long, twice at least; what a call takes of the instance's time, in ns: the median."""
        run = self._one_by_one if self._streams == 1 else self._in_streams
        end = time.perf_counter() + seconds
        times: list[float] = []
        while len(times) < 2 or time.perf_counter() < end:  # noqa: PLR2004 (a median of one would be the coldest)
            times.append(float(np.median(run(self._streams))))
        self._thread_ns = _thread_times()
        return float(np.median(times[len(times) // 4 :])) / self._streams

    def burst(self, warmup: int, timed: int) -> Burst:
        run = self._one_by_one if self._streams == 1 else self._in_streams
        run(warmup)
        switches, cpu, start = _switches(), time.process_time_ns(), time.perf_counter_ns()
        times = run(timed)
        wall = time.perf_counter_ns() - start
        return Burst(times, wall, time.process_time_ns() - cpu, _switches() - switches, self._streams)

    def _one_by_one(self, calls: int) -> np.ndarray:
        """Ns of each call."""
        session, batch, clock = self._opened, self._batch, time.perf_counter_ns
        times = np.empty(calls, np.int64)
        for index in range(calls):
            inputs = batch()
            before = clock()
            session(inputs)
            times[index] = clock() - before
        return times

    def _in_streams(self, calls: int) -> np.ndarray:
        """Ns from the beginning to the end of each call, of which each stream has one under way until there are enough."""
        session, clock, streams = self._opened, time.perf_counter_ns, self._streams
        begun, times = np.empty(calls, np.int64), np.empty(calls, np.int64)
        for index in range(calls + streams):
            if 0 <= index - streams < calls:
                session.finish(index % streams)
                times[index - streams] = clock() - begun[index - streams]
            if index < calls:
                begun[index] = clock()
                session.start(index % streams, self._batch())
        return times

    @property
    def _streams(self) -> int:
        return self._opened.streams if self._serving.at_once else 1

    def attend(self, *, bare: bool) -> Attended:
        """Serve the queue until it is closed; ``bare`` without calling the network: what the harness costs by itself."""
        assert self._serving.queue is not None
        artifact, queue = self._serving.artifact, RequestQueue(self._serving.queue)
        sessions = {**self._smaller, artifact.deployment.batch: self._opened}
        cpu, start = time.process_time_ns(), time.perf_counter_ns()
        calls = attend(queue, sessions, self._serving.batches, artifact.deployment, streams=self._streams, bare=bare)
        return Attended(calls, time.perf_counter_ns() - start, time.process_time_ns() - cpu)

    def added_bytes(self) -> int:
        """The most memory that was resident since loading began, less what was resident before."""
        return max(0, _memory("VmHWM") - self._resident_before)

    def thread_ns(self) -> tuple[int, ...]:
        """Processor time of each thread since `warm`, the busiest first."""
        now = _thread_times()
        return tuple(sorted((spent - self._thread_ns.get(thread, 0) for thread, spent in now.items()), reverse=True))

    def effective(self) -> Effective:
        """What really ran; what a call takes on the device alone, where the engine tells."""
        device_ms = self._opened.device_ms()
        found = self._opened.effective()
        if device_ms is None:
            return found
        return replace(found, details={**found.details, "device ms a call": f"{device_ms:.4g}"})

    def predict(self, inputs: Inputs, size: int) -> np.ndarray:
        """The first output for samples, (n, ...) each, in batches of ``size``; the last one is padded with its last sample."""
        session, count, parts = self._session_for(size), len(inputs[0]), []
        for start in range(0, count, size):
            batch = tuple(np.asarray(array[start : start + size]) for array in inputs)
            parts.append(np.array(session(_padded(batch, size))[0][: count - start], copy=True))
        return np.concatenate(parts)

    def _session_for(self, size: int) -> Session:
        artifact = self._serving.artifact
        if size == artifact.deployment.batch:
            return self._opened
        if size in self._smaller:
            return self._smaller[size]
        other = replace(artifact.deployment, batch=size)
        return engine_named(artifact.engine).load(artifact.folder, other, self._serving.signature)

    @property
    def _opened(self) -> Session:
        assert self._session is not None
        return self._session

    def _batch(self) -> Inputs:
        self._next = (self._next + 1) % len(self._serving.batches)
        return self._serving.batches[self._next]


def _padded(batch: Inputs, size: int) -> Inputs:
    missing = size - len(batch[0])
    return batch if not missing else tuple(np.concatenate((part, np.repeat(part[-1:], missing, 0))) for part in batch)


def _switches() -> int:

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def _thread_times() -> dict[int, int]:
    """Processor time in ns by thread; empty where the kernel does not keep it."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            found[int(task.name)] = int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has ended, or the kernel keeps no such statistics
    return found
