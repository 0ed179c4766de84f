"""Which processors the calls of one warmed parent run on: their own, and idle ones lent to them.

A training next to a measurement that takes a third of the time would leave that core idle for two thirds of it. So a call may name
processors that it would use as well; it gets them as long as no exclusive call has them, and is off them before one begins.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autoopt.workers.process import system


@dataclass(frozen=True)
class Wish:
    """What a call's limits say about processors."""

    own: frozenset[int]
    """Empty where it has none of its own: it then runs where its parent does."""
    spare: frozenset[int]
    exclusive: bool

    @classmethod
    def of(cls, limits: Mapping[str, Any]) -> Wish:
        """From `Limits` as JSON."""
        return cls(frozenset(limits["cores"] or ()), frozenset(limits["spare"]), limits["exclusive"])


class Lending:
    """The processors of the calls that run, by their processes."""

    def __init__(self) -> None:
        self._home = frozenset(os.sched_getaffinity(0))
        self._wishes: dict[int, Wish] = {}
        self._given: dict[int, frozenset[int]] = {}

    def start(self, wish: Wish, start: Callable[[], int]) -> int:
        """Start a process by a function that returns its number; the process begins where it shall run.

        Where an exclusive call begins, nobody is left on its processors.
        """
        taken = self._taken() | (wish.own if wish.exclusive else frozenset())
        self._share(taken)
        cores = self._cores(wish, taken)
        _pin_this(cores)
        pid = start()
        _pin_this((self._home - taken) or self._home)
        self._wishes[pid], self._given[pid] = wish, cores
        return pid

    def end(self, pid: int) -> None:
        """The process has ended: what it had can be lent."""
        del self._wishes[pid], self._given[pid]
        taken = self._taken()
        self._share(taken)
        _pin_this((self._home - taken) or self._home)

    def _taken(self) -> frozenset[int]:
        return frozenset().union(*(wish.own for wish in self._wishes.values() if wish.exclusive))

    def _cores(self, wish: Wish, taken: frozenset[int]) -> frozenset[int]:
        return (wish.own or self._home) | (wish.spare - taken)

    def _share(self, taken: frozenset[int]) -> None:
        for pid, wish in self._wishes.items():
            cores = self._cores(wish, taken)
            if cores != self._given[pid]:
                system.pin(pid, cores)
                self._given[pid] = cores


def _pin_this(cores: frozenset[int]) -> None:
    # Processors that are not there are the call's own failure, and told by its process.
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, cores)
