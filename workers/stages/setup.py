"""What all candidates of a job share: the task's folder, the reference, the machine's cores, how to measure."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from autoopt.records import Candidate


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
        """Whether a measurement must be alone on the machine."""
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


def share_cores(lane_cores: int | None = None) -> Cores:
    """Share out the cores that this process may use; ``lane_cores`` defaults to half of them, at least one."""
    available = tuple(sorted(os.sched_getaffinity(0)))
    lane = available[: lane_cores or max(1, len(available) // 2)]
    work = available[len(lane) :] or available
    # Two threads on two half-busy cores were 3 to 10 times slower than one: a thread a core, and many trainers.
    return Cores(lane=lane, work=work)


@dataclass(frozen=True)
class Setup:
    """A job's constants, as every stage and worker needs them."""

    task_key: str
    """The prepared task's fingerprint: the store's key of its folder."""
    source_format: str
    training_samples: int
    """Size of the train split; 0 where there is none."""
    reference: Candidate
    cores: Cores
    scenario: str = "single_stream"
    seed: int = 0
    rungs: tuple[float, ...] = ()
    """Recovery is done in these steps, in epochs, cumulative; after each the candidate may be eliminated."""
    stage_timeout_s: float = 900.0
    memory_bytes: int | None = None
    """A stage's process may use so much."""
    settings: dict[str, float] = field(default_factory=dict)
    """Overrides of the timing's defaults, by name (`autoopt.workers.measure.TimingSettings`)."""
