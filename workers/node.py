"""What a node is: of which kind, how its cores are shared out, and where its processes find each other.

A node is one machine, or one part of a machine with cores of its own. It says what it is in the environment variable
``AUTOOPT_NODE``, which every process of its raylet inherits: Ray pins nothing, and the raylet itself stays off the lane's cores,
so that no process could find out by looking at what it may use.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoopt.records import environment as environments
from autoopt.records import from_json, to_json
from autoopt.records.environment import Environment
from autoopt.records.hardware import DEFAULT

VARIABLE = "AUTOOPT_NODE"

BUILDERS, FINISHERS = 4, 2
"""At least, though builders only get what is left over: one that compiles for half a minute must not hold up the others."""


@dataclass(frozen=True)
class Cores:
    """How a node's cores are shared out: the lane's are its own, the others train; building takes what is left over.

    On a machine with a single core, or when the lane is given all of them, measuring and working exclude each other
    in time (`exclusive`).
    """

    lane: tuple[int, ...]
    work: tuple[int, ...]
    train_threads: int = 1

    @property
    def exclusive(self) -> bool:
        """Whether a measurement must be alone on the node."""
        return bool(set(self.lane) & set(self.work))

    @property
    def every(self) -> tuple[int, ...]:
        """All cores: for building, which gives way to whoever else wants one (nobody, most of the time, on the lane's)."""
        return tuple(sorted({*self.lane, *self.work}))

    @property
    def trainers(self) -> int:
        """How many trainings run at once."""
        return max(1, len(self.work) // self.train_threads)

    @property
    def spare_trainers(self) -> int:
        """How many more can train on the lane's cores while nothing is measured there."""
        return 0 if self.exclusive else len(self.lane) // self.train_threads


def share_cores(lane_cores: int | None = None, available: Sequence[int] | None = None) -> Cores:
    """Share out cores.

    Args:
        lane_cores: how many are the lane's; half of them by default, at least one.
        available: those of the node; by default, what this process may use.
    """
    cores = tuple(sorted(os.sched_getaffinity(0) if available is None else available))
    lane = cores[: lane_cores or max(1, len(cores) // 2)]
    work = cores[len(lane) :] or cores
    # Two threads on two half-busy cores were 3 to 10 times slower than one: a thread a core, and many trainers.
    return Cores(lane=lane, work=work)


@dataclass(frozen=True)
class Hardware:
    """What the nodes of one kind have in common, as far as the plan of a candidate depends on it."""

    environment: Environment
    """Its ``cores`` are the node's, however few a process of it may use."""
    lane: int
    """Cores of the lane."""
    work: int
    """Cores beside it."""
    exclusive: bool
    """Whether a measurement must be alone on the node."""
    slots: Mapping[str, float]
    """Ray's custom resources of a node."""

    def needs(self, role: str) -> dict[str, float]:
        """What a stage of that role takes of a node's slots; a measurement that shares its cores takes everything."""
        if role == "lane" and self.exclusive:
            return {name: count for name, count in self.slots.items() if name != SPARE}
        return {role: 1}


SPARE = "spare_trainer"
"""Not a slot, but a count: so many of a node's trainers are on cores that its lane lends."""


@dataclass(frozen=True)
class Node:
    """One node."""

    cores: Cores
    kind: str = DEFAULT
    meeting: str | None = None
    """The folder in which its processes find the warmed parents that they share: on its own disk, for this user only."""
    trainers: int | None = None
    """How many train at a time; None: one for each core, with those of the lane while it is idle."""
    builders: int | None = None
    """How many build at a time; None leaves it to the cores."""

    @classmethod
    def here(cls) -> Node:
        """The node of this process: as the environment says, else of the kind "default" with the cores that it may use."""
        said = os.environ.get(VARIABLE)
        return from_json(cls, json.loads(said)) if said else cls(share_cores())

    @property
    def environment(self) -> dict[str, str]:
        """What its processes must find in their environment."""
        return {VARIABLE: json.dumps(to_json(self))}

    @property
    def hardware(self) -> Hardware:
        """What it has in common with others of its kind. Right for the node of this process only, whose processor is looked at."""
        cores = self.cores
        seen = replace(environments.current(), cores=len(cores.every))
        return Hardware(seen, len(cores.lane), len(cores.work), cores.exclusive, self.slots)

    @property
    def slots(self) -> dict[str, float]:
        """Its custom resources, as Ray knows them; without "lane" where nothing is measured."""
        cores = self.cores
        trainers = cores.trainers + cores.spare_trainers if self.trainers is None else self.trainers
        spare = max(0, min(cores.spare_trainers, trainers - cores.trainers))
        lane = {"lane": 1, SPARE: spare} if cores.lane else {}
        return {
            **lane,
            "trainer": trainers,
            "builder": max(BUILDERS, len(cores.work) // 2) if self.builders is None else self.builders,
            "finisher": max(FINISHERS, min(cores.trainers, trainers)),
        }

    def meeting_of(self, name: str) -> Path:
        """Its meeting folder; one made from the name where it has none of its own."""
        return Path(self.meeting) if self.meeting else meeting_named(name)


def meeting_named(name: str) -> Path:
    """A folder for processes of this node and user, made from any text."""
    short = hashlib.sha256(name.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"autoopt-{os.getuid()}-{short}")
