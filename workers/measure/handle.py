"""The measuring process's hold on a server process: commands as methods, its death as a failure."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from autoopt.errors import FailureKind, StageError
from autoopt.records import Effective
from autoopt.workers.engines import engine as engine_named
from autoopt.workers.measure.server import Burst, Inputs, Loaded, Serving, serve

_PREDICT_BYTES = 32_000_000
_LARGE_BATCH = 50
# Processes are forked: the parent holds the samples and the warmed modules, and runs no thread.
_fork = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Server:
    """A served artifact. Every method raises the StageError of what failed in the process."""

    serving: Serving
    pipe: Connection
    process: multiprocessing.process.BaseProcess
    is_reference: bool = False

    def load(self) -> Loaded:
        """Open the artifact and call it once."""
        loaded: Loaded = self._ask("load")
        return loaded

    def warm(self, seconds: float) -> float:
        """Call it for so long; the median time of a call, in ns."""
        return float(self._ask("warm", seconds))

    def burst(self, warmup: int, timed: int) -> Burst:
        """Call it so often."""
        burst: Burst = self._ask("burst", warmup, timed)
        return burst

    def added_bytes(self) -> int:
        """The memory that loading and running added, at its peak."""
        return int(self._ask("added_bytes"))

    def thread_ns(self) -> tuple[int, ...]:
        """Processor time of each thread during the bursts, the busiest first; empty where the kernel does not tell."""
        return tuple(self._ask("thread_ns"))

    def effective(self) -> Effective:
        """What really ran."""
        effective: Effective = self._ask("effective")
        return effective

    def predict(self, inputs: Inputs, *, freely: bool = False) -> np.ndarray:
        """The first output for every sample, (N, ...), floating point in float32 at least.

        In the deployment's own batches; with ``freely`` in large ones where the engine computes the same for any (eager
        PyTorch would need half a minute for a test split, sample by sample).
        """
        per_sample = max(1, sum(array[:1].nbytes for array in inputs))
        artifact = self.serving.artifact
        large = freely and engine_named(artifact.engine).any_batch
        batch = max(artifact.deployment.batch, _LARGE_BATCH if large else 1)
        step = batch * max(1, _PREDICT_BYTES // per_sample // batch)
        parts = []
        for start in range(0, len(inputs[0]), step):
            chunk = tuple(np.ascontiguousarray(array[start : start + step]) for array in inputs)
            parts.append(np.asarray(self._ask("predict", chunk, batch)))
        outputs = np.concatenate(parts)
        return outputs.astype(np.float32) if outputs.dtype == np.float16 else outputs

    def _ask(self, command: str, *arguments: Any) -> Any:
        try:
            self.pipe.send((command, arguments))
            answer = self.pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            raise self._died(command) from error
        if isinstance(answer, StageError):
            raise self._failed(answer.kind, answer.message)
        return answer

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


@contextmanager
def served(serving: Serving, *, is_reference: bool = False) -> Iterator[Server]:
    """A server process, killed at the end: what it holds is not worth tidying up."""
    ours, theirs = _fork.Pipe()
    process = _fork.Process(target=_serve, args=(serving, theirs, ours, os.getpid()), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Server(serving, ours, process, is_reference)
    finally:
        process.kill()
        process.join()
        ours.close()


def _serve(serving: Serving, pipe: Connection, other_end: Connection, parent: int) -> None:
    other_end.close()  # or the pipe would never close for the server
    serve(serving, pipe, parent)
