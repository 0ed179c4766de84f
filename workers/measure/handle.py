"""The measuring process's hold on a server process: commands as methods, its death as a failure."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np

from autoopt import engine_environments
from autoopt.engine_environments import EngineEnvironment
from autoopt.errors import FailureKind, StageError
from autoopt.records import Effective
from autoopt.workers.engines import engine as engine_named
from autoopt.workers.measure.attend import Attended
from autoopt.workers.measure.server import Burst, Inputs, Loaded, Serving, serve, together

_PREDICT_BYTES = 32_000_000
_LARGE_BATCH = 50
# Processes are forked: the parent holds the samples and the warmed modules, and runs no thread.
_fork = multiprocessing.get_context("fork")


class _Process(Protocol):
    """What is wanted of a process."""

    @property
    def exitcode(self) -> int | None: ...

    def kill(self) -> None: ...

    def join(self) -> None: ...


class _Spawned:
    """A process in an engine's own environment: another interpreter, so that nothing is inherited but descriptors."""

    def __init__(self, foreign: EngineEnvironment, pipe: Connection, serving: Serving) -> None:
        queue = () if serving.queue is None else vars(serving.queue).values()
        command = [str(foreign.python), "-P", "-m", "autoopt.workers.measure.foreign", str(pipe.fileno())]
        self._process = subprocess.Popen(
            [*command, str(os.getpid())], pass_fds=(pipe.fileno(), *queue), env=foreign.environment()
        )

    @property
    def exitcode(self) -> int | None:
        """As `multiprocessing` has it: the signal's number, negative."""
        return self._process.poll()

    def kill(self) -> None:
        """At once."""
        self._process.kill()

    def join(self) -> None:
        """Wait until it has ended."""
        self._process.wait()


@dataclass(frozen=True)
class _Instance:
    """A process that serves an artifact. Every method raises the StageError of what failed in it."""

    serving: Serving
    pipe: Connection
    process: _Process
    is_reference: bool

    def predict(self, inputs: Inputs, *, freely: bool = False, smaller: int | None = None) -> np.ndarray:
        """The first output for every sample, (N, ...), floating point in float32 at least.

        In the deployment's own batches; with ``freely`` in large ones where the engine computes the same for any (eager
        PyTorch would need half a minute for a test split, sample by sample); with ``smaller`` by the artifact that was built for
        batches of that size.
        """
        per_sample = max(1, sum(array[:1].nbytes for array in inputs))
        artifact = self.serving.artifact
        large = freely and engine_named(artifact.engine).any_batch
        batch = smaller or max(artifact.deployment.batch, _LARGE_BATCH if large else 1)
        step = batch * max(1, _PREDICT_BYTES // per_sample // batch)
        parts = []
        for start in range(0, len(inputs[0]), step):
            chunk = tuple(np.ascontiguousarray(array[start : start + step]) for array in inputs)
            parts.append(np.asarray(self.ask("predict", chunk, batch)))
        outputs = np.concatenate(parts)
        return outputs.astype(np.float32) if outputs.dtype == np.float16 else outputs

    def ask(self, command: str, *arguments: Any) -> Any:
        """Give a command and wait for the answer."""
        self.tell(command, *arguments)
        return self.hear(command)

    def tell(self, command: str, *arguments: Any, **named: Any) -> None:
        """Give a command; `hear` its answer before the next one."""
        with self._living(command):
            self.pipe.send((command, arguments, named))

    def hear(self, command: str) -> Any:
        """The answer."""
        with self._living(command):
            answer = self.pipe.recv()
        if isinstance(answer, StageError):
            raise self._failed(answer.kind, answer.message)
        return answer

    @contextmanager
    def _living(self, command: str) -> Iterator[None]:
        try:
            yield
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            raise self._died(command) from error

    def _failed(self, kind: FailureKind, message: str) -> StageError:
        # The reference has been measured before: what is held against it is not to blame, and will be tried again.
        if self.is_reference:
            return StageError(FailureKind.INTERRUPTED, f"the reference failed, against which it was timed: {message}")
        return StageError(kind, message)

    def _died(self, command: str) -> StageError:
        self.process.join()
        code = self.process.exitcode or 0
        ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        message = f"the process that served the artifact in {self.serving.artifact.engine} {ended} (during: {command})"
        return self._failed(FailureKind.CRASHED, message)


@dataclass(frozen=True)
class Server:
    """A served artifact: its instances, which do everything at the same time. Methods raise the StageError of the first that failed."""

    instances: tuple[_Instance, ...]

    @property
    def serving(self) -> Serving:
        """What the first one serves."""
        return self.instances[0].serving

    def load(self) -> Loaded:
        """Open the artifact and call it once; the slowest counts."""
        loaded = self._all("load")
        return Loaded(max(each.load_s for each in loaded), max(each.first_ms for each in loaded))

    def warm(self, seconds: float) -> float:
        """Call it for so long; what a call takes of an instance's time, in ns: the median."""
        return float(np.mean(self._all("warm", seconds)))

    def burst(self, warmup: int, timed: int) -> Burst:
        """Call each instance so often."""
        return together(self._all("burst", warmup, timed))

    def attend(self, *, bare: bool) -> None:
        """All instances begin to serve the queue; `attended` waits until it is closed."""
        for each in self.instances:
            each.tell("attend", bare=bare)

    def attended(self) -> tuple[Attended, ...]:
        """What each instance did."""
        return tuple(each.hear("attend") for each in self.instances)

    def added_bytes(self) -> int:
        """The memory that loading and running added, at its peak, in all instances."""
        return sum(self._all("added_bytes"))

    def thread_ns(self) -> tuple[tuple[int, ...], ...]:
        """Of each instance: processor time of each thread during the bursts, the busiest first; empty where the kernel does not tell."""
        return tuple(tuple(each) for each in self._all("thread_ns"))

    def effective(self) -> Effective:
        """What really ran; of several instances, the first that differs from the first one."""
        found: list[Effective] = self._all("effective")
        return next((each for each in found if _asked(each) != _asked(found[0])), found[0])

    def predict(self, inputs: Inputs, *, freely: bool = False, smaller: int | None = None) -> np.ndarray:
        """See `_Instance.predict`: by the first one."""
        return self.instances[0].predict(inputs, freely=freely, smaller=smaller)

    def _all(self, command: str, *arguments: Any) -> list[Any]:
        for each in self.instances:
            each.tell(command, *arguments)
        return [each.hear(command) for each in self.instances]


def _asked(effective: Effective) -> tuple[str, str, int]:
    return (effective.hardware, effective.precision, effective.threads)


@contextmanager
def served(serving: Serving, *, is_reference: bool = False) -> Iterator[Server]:
    """Server processes, one an instance, each on cores of its own; killed at the end: what they hold is not worth tidying up."""
    threads = serving.artifact.deployment.threads
    with ExitStack() as stack:
        instances = [
            stack.enter_context(_instance(replace(serving, cores=serving.cores[start : start + threads]), is_reference))
            for start in range(0, serving.artifact.deployment.cores, threads)
        ]
        yield Server(tuple(instances))


@contextmanager
def _instance(serving: Serving, is_reference: bool) -> Iterator[_Instance]:  # noqa: FBT001 (a field)
    ours, theirs = _fork.Pipe()
    foreign = engine_environments.find(serving.artifact.engine)
    process: _Process
    if foreign is None:
        process = _fork.Process(target=_serve, args=(serving, theirs, ours, os.getpid()), daemon=True)
        process.start()
    else:
        process = _Spawned(foreign, theirs, serving)
        ours.send(serving)
    theirs.close()
    try:
        yield _Instance(serving, ours, process, is_reference)
    finally:
        process.kill()
        process.join()
        ours.close()


def _serve(serving: Serving, pipe: Connection, other_end: Connection, parent: int) -> None:
    other_end.close()  # or the pipe would never close for the server
    serve(serving, pipe, parent)
