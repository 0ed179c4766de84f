"""What an instance of a server does with the queue: take a batch, call the network, note when it was answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from autoopt.records import Deployment
from autoopt.records.candidate import DYNAMIC
from autoopt.workers.engines.base import Session
from autoopt.workers.measure.requests import RequestQueue


@dataclass(frozen=True)
class Attended:
    """What an instance did for a queue."""

    calls: int
    wall_ns: int
    cpu_ns: int


def attend(
    queue: RequestQueue,
    sessions: Mapping[int, Session],
    batches: tuple[tuple[np.ndarray, ...], ...],
    deployment: Deployment,
    *,
    streams: int = 1,
    bare: bool = False,
) -> int:
    """Serve until the queue is closed and empty.

    Args:
        queue: of requests.
        sessions: by the size of batch that each is built for; a batch goes to the smallest that has room for it.
        batches: samples, each (batch, *shape), of the largest size.
        deployment: the largest batch, and how long it is waited for.
        streams: calls that each session runs at once.
        bare: whether no network is called.

    Returns:
        The number of calls.
    """
    wait_ns = round(deployment.max_wait_ms * 1e6) if deployment.batching == DYNAMIC else None
    if bare or deployment.batch == 1:
        wait_ns = 0  # waiting for others is the deployment's, and none of the harness's
    samples = _Samples(batches)
    calls = [0] * streams

    def serve(stream: int) -> None:
        run = {size: _caller(session, stream, streams) for size, session in sorted(sessions.items())}
        while (taken := queue.take(deployment.batch, wait_ns)) is not None:
            first, count = taken
            if not bare:
                size = next(size for size in run if size >= count)
                run[size](samples.some(first, size))
            queue.finish(first, count)
            calls[stream] += 1

    # A thread only waits for its stream, without the interpreter's lock.
    others = [threading.Thread(target=serve, args=(stream,)) for stream in range(1, streams)]
    for each in others:
        each.start()
    serve(0)
    for each in others:
        each.join()
    return sum(calls)


def _caller(session: Session, stream: int, streams: int) -> Callable[[tuple[np.ndarray, ...]], object]:
    return session if streams == 1 else partial(_in_stream, session, stream)


def _in_stream(session: Session, stream: int, inputs: tuple[np.ndarray, ...]) -> None:
    session.start(stream, inputs)
    session.finish(stream)


class _Samples:
    """All samples in a row, so that any number of them is a view: nothing is copied when a batch is formed."""

    def __init__(self, batches: tuple[tuple[np.ndarray, ...], ...]) -> None:
        columns = zip(*batches, strict=True)
        # The first ones once more at the end, for a batch that begins with the last.
        self._rows = tuple(np.concatenate((*column, column[0])) for column in columns)
        self._count = len(self._rows[0]) - len(batches[0][0])

    def some(self, first: int, size: int) -> tuple[np.ndarray, ...]:
        """So many samples for the requests from this one on: a batch that is not full is padded with the next ones."""
        start = first % self._count
        return tuple(rows[start : start + size] for rows in self._rows)
