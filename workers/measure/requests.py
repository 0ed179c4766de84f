"""The queue between a load generator and the instances that serve: shared memory, and descriptors to wait on.

Nothing is copied on its way: a request is a number, its sample is preloaded by whoever serves. What a request costs besides the
network is a few microseconds of Python on either side, which is measured with every result (`autoopt.workers.measure.service`).
The descriptors go through fork as well as through ``exec``, so that an instance may run in another interpreter.
"""

from __future__ import annotations

import mmap
import os
import select
import time
from dataclasses import dataclass

import numpy as np

CAPACITY = 1 << 16
"""Requests of one window."""
_ARRIVED, _TAKEN, _CLOSED, _GIVEN_UP, _BEGUN, _HEADER = 0, 1, 2, 3, 4, 8
_COLUMNS = 3


@dataclass(frozen=True)
class Descriptors:
    """What another process needs to take part."""

    memory: int
    arrivals: int
    """An eventfd: something has arrived, or the queue was closed."""
    turn: int
    """An eventfd that holds 1 while nobody gathers a batch: one instance at a time does, so that a burst of requests is one batch."""


class RequestQueue:
    """Requests in the order in which they arrive; every process has its own object over the same memory."""

    def __init__(self, descriptors: Descriptors) -> None:
        self.descriptors = descriptors
        # Closed with the process.
        memory = np.frombuffer(mmap.mmap(descriptors.memory, _size()), np.int64)
        self._header = memory[:_HEADER]
        self.released_ns, self.done_ns, self.batch = memory[_HEADER:].reshape(_COLUMNS, CAPACITY)

    @classmethod
    def create(cls) -> RequestQueue:
        """An empty one."""
        memory = os.memfd_create("autoopt-requests")
        os.ftruncate(memory, _size())
        return cls(Descriptors(memory, os.eventfd(0), os.eventfd(1, os.EFD_SEMAPHORE)))

    def discard(self) -> None:
        """Close the descriptors."""
        for descriptor in vars(self.descriptors).values():
            os.close(descriptor)

    def reset(self) -> None:
        """Empty and open, for the next window; nobody may be serving."""
        self._header[:] = 0
        self.done_ns[:] = 0

    @property
    def arrived(self) -> int:
        """Requests so far."""
        return int(self._header[_ARRIVED])

    @property
    def taken(self) -> int:
        """Requests that an instance has taken."""
        return int(self._header[_TAKEN])

    @property
    def closed(self) -> bool:
        """Whether nothing will arrive any more."""
        return bool(self._header[_CLOSED])

    @property
    def begun_ns(self) -> int:
        """When the first second began; 0 before."""
        return int(self._header[_BEGUN])

    @property
    def given_up(self) -> bool:
        """Whether nobody wants the answers any more."""
        return bool(self._header[_GIVEN_UP])

    def begin(self, begin_ns: int) -> None:
        """Requests arrive from now on."""
        self._header[_BEGUN] = begin_ns

    def release(self) -> None:
        """A request arrives."""
        index = self.arrived
        self.released_ns[index] = time.perf_counter_ns()
        self._header[_ARRIVED] = index + 1
        os.eventfd_write(self.descriptors.arrivals, 1)

    def close(self) -> None:
        """Nothing will arrive any more: whoever waits is told."""
        self._header[_CLOSED] = 1
        os.eventfd_write(self.descriptors.arrivals, 1)

    def give_up(self) -> None:
        """Nobody wants the answers any more: instances take no other batch."""
        self._header[_GIVEN_UP] = 1
        self.close()

    def take(self, limit: int, max_wait_ns: int | None) -> tuple[int, int] | None:
        """Wait for requests and take some, in turn with the other instances.

        Args:
            limit: so many at most.
            max_wait_ns: how long the first of them waits for others, from its arrival; None: until there are ``limit``.

        Returns:
            The number of the first one and how many; None when the queue is closed and empty, or given up.
        """
        os.eventfd_read(self.descriptors.turn)
        try:
            first = int(self._header[_TAKEN])
            self._wait(first, 1, None)
            if self.arrived == first or self.given_up:
                return None
            deadline = None if max_wait_ns is None else int(self.released_ns[first]) + max_wait_ns
            self._wait(first, limit, deadline)
            count = min(limit, self.arrived - first)
            self._header[_TAKEN] = first + count
            return first, count
        finally:
            os.eventfd_write(self.descriptors.turn, 1)

    def finish(self, first: int, count: int) -> None:
        """These have been answered, in one batch."""
        self.batch[first : first + count] = count
        self.done_ns[first : first + count] = time.perf_counter_ns()

    def _wait(self, first: int, wanted: int, deadline_ns: int | None) -> None:
        """Until so many have arrived since, the queue is closed, or the time has come."""
        arrivals = self.descriptors.arrivals
        while self.arrived - first < wanted and not self.closed:
            left = None if deadline_ns is None else (deadline_ns - time.perf_counter_ns()) / 1e9
            if left is not None and left <= 0:
                return
            if select.select([arrivals], [], [], left)[0]:
                os.eventfd_read(arrivals)  # only who has the turn reads it, so that this never blocks


def _size() -> int:
    return 8 * (_HEADER + _COLUMNS * CAPACITY)
