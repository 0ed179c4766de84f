"""MetaSchedule under a time limit: schedules are drawn from TVM's design space of each task, compiled and timed.

Drawing at random is what a minute is best spent on. A trial costs 0.3 s, nearly all of it the compiler's; MetaSchedule's evolutionary
search with its learnt cost model draws and mutates so many schedules for each one that it times that a convolution's 12 s of processor
time were 16 to 24 trials and 38–103 µs, against 32 to 40 trials and 41–49 µs at random (theoretical peak of the core: 40 µs).
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

from autoopt.workers.engines.tvm_trial import PATIENCE, time_in_child, warm

if TYPE_CHECKING:
    from pathlib import Path

    from tvm.ir import IRModule
    from tvm.s_tir.meta_schedule.database import Database
    from tvm.target import Target

STALE = 64
"""A task is done when so many schedules in a row have gained less than `LEAST_GAIN`."""
LEAST_GAIN = 0.01
FEW_TRIALS, SMALL_SHARE = 6, 0.01
"""Tasks that take less than this share of the network's time get so many trials at most; so do those of which none succeeds."""
_MANY = 1_000_000


@dataclass(frozen=True)
class Tuning:
    """What tuning came to."""

    seconds: float
    """Of processor time."""
    elapsed_s: float
    trials: int
    """Schedules that were compiled and timed."""
    tasks: int
    tuned: int
    """Tasks that have at least one timed schedule."""
    share: float
    """The part of the network's arithmetic that tuned tasks do."""
    threads: int
    """In how many threads schedules were timed."""


@dataclass
class _Task:
    """One fused loop nest, which the network runs ``calls`` times."""

    context: Any
    workload: Any
    calls: int
    operations: float
    best_s: float | None = None
    drawn: int = 0
    timed: int = 0
    stale: int = 0
    exhausted: bool = False
    seen: set[int] = field(default_factory=set)

    @property
    def total_s(self) -> float:
        """What the network spends in it."""
        return self.calls * (self.best_s or 0.0)

    def promise(self) -> tuple[bool, float]:
        """How much another trial may gain: what has no schedule yet first, then where most time goes for the trials it had."""
        if self.best_s is None:
            return True, self.calls * self.operations / (1 + self.drawn)
        return False, self.total_s / self.drawn


def tune(program: IRModule, target: Target, threads: int, seconds: float, folder: Path) -> tuple[Database, Tuning]:
    """Search schedules for all tasks of a program for so long.

    Args:
        program: calls of fused loop nests, as `tvm_lowering.to_tasks` gives them.
        target: to compile for.
        threads: in which the network will be served.
        seconds: of processor time; the search ends after `PATIENCE` times as many by the clock.
        folder: for the records, in MetaSchedule's own JSON.

    Returns:
        The records to compile with, and what was done.
    """
    from tvm.s_tir.meta_schedule.database import JSONDatabase

    database = JSONDatabase(str(folder / "workloads.json"), str(folder / "records.json"))
    tasks = _tasks(program, target, threads, database)
    measured = min(threads, len(os.sched_getaffinity(0)))
    warm(target)
    start, spent = time.monotonic(), _processor_s()
    while _processor_s() - spent < seconds and time.monotonic() - start < PATIENCE * seconds:
        task = _next(tasks)
        if task is None:
            break
        _try(task, target, measured, database)
    tuned = [task for task in tasks if task.best_s is not None]
    arithmetic = sum(task.calls * task.operations for task in tasks)
    return database, Tuning(
        seconds=_processor_s() - spent,
        elapsed_s=time.monotonic() - start,
        trials=sum(task.timed for task in tasks),
        tasks=len(tasks),
        tuned=len(tuned),
        share=sum(task.calls * task.operations for task in tuned) / max(arithmetic, 1.0),
        threads=measured,
    )


def _processor_s() -> float:
    """What this process and the children that it has waited for have taken."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _tasks(program: IRModule, target: Target, threads: int, database: Database) -> list[_Task]:
    from tvm.s_tir import meta_schedule
    from tvm.s_tir.analysis import estimate_tir_flops
    from tvm.s_tir.meta_schedule.postproc import Postproc
    from tvm.s_tir.meta_schedule.space_generator import PostOrderApply

    found = []
    for number, task in enumerate(meta_schedule.relax_integration.extract_tasks(program, target)):
        with _without_tensor_intrinsics():
            context = meta_schedule.TuneContext(
                task.dispatched[0],
                target=target,
                space_generator=PostOrderApply(
                    sch_rules=_rules(threads), postprocs=Postproc.create("llvm"), mutator_probs={}
                ),
                search_strategy="replay-trace",
                task_name=task.task_name,
                rand_state=number + 1,
                num_threads=1,
            )
        context.pre_tuning(_MANY, 1, context.generate_design_space(), database)
        workload = database.commit_workload(context.mod)
        found.append(_Task(context, workload, task.weight, 1.0 + estimate_tir_flops(context.mod)))
    return found


@contextlib.contextmanager
def _without_tensor_intrinsics() -> Iterator[None]:
    """A context would import those of all hardware: half a minute of parsing where PyTorch is loaded, and no rule here uses one."""
    name = "tvm.s_tir.tensor_intrin"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name]


def _rules(threads: int) -> list[Any]:
    """MetaSchedule's rules for processors; for one thread without parallel loops, each of which would cost a call of the pool."""
    from tvm.s_tir.meta_schedule.schedule_rule import ApplyCustomRule, ParallelizeVectorizeUnroll, ScheduleRule

    # Custom rules are looked up by hardware; there is none for processors, and a warning for each.
    rules = [rule for rule in ScheduleRule.create("llvm") if not isinstance(rule, ApplyCustomRule)]
    if threads > 1:
        return rules
    alone = ParallelizeVectorizeUnroll(max_jobs_per_core=-1, max_vectorize_extent=64, unroll_max_steps=[0, 16, 64, 512])
    return [alone if isinstance(rule, ParallelizeVectorizeUnroll) else rule for rule in rules]


def _next(tasks: list[_Task]) -> _Task | None:
    total = sum(task.total_s for task in tasks)
    complete = all(task.best_s is not None or task.exhausted for task in tasks)
    left = [
        task
        for task in tasks
        if not task.exhausted and not (complete and task.drawn >= FEW_TRIALS and task.total_s < SMALL_SHARE * total)
    ]
    return max(left, key=_Task.promise, default=None)


def _try(task: _Task, target: Target, threads: int, database: Database) -> None:
    """Draw one schedule, and time it unless it was drawn before."""
    from tvm.s_tir.meta_schedule.runner import RunnerResult

    drawn = task.context.generate_measure_candidates()  # none where a hundred in a row were invalid
    best_s, task.drawn = task.best_s, task.drawn + 1
    for candidate in drawn:
        seconds = _time_once(task, candidate, target, threads)
        task.context.notify_runner_results(drawn, [RunnerResult([seconds] if seconds else None, None)])
        if seconds is not None:
            _record(task, candidate, seconds, target, database)
    gained = task.best_s is not None and task.best_s < (1 - LEAST_GAIN) * (best_s or math.inf)
    task.stale = 0 if gained else task.stale + 1
    task.exhausted = task.stale >= (FEW_TRIALS if task.best_s is None else STALE)


def _time_once(task: _Task, candidate: Any, target: Target, threads: int) -> float | None:
    from tvm_ffi import structural_hash

    name = structural_hash(candidate.sch.mod)
    if name in task.seen:
        return None
    task.seen.add(name)
    return time_in_child(candidate, target, threads, task.best_s)


def _record(task: _Task, candidate: Any, seconds: float, target: Target, database: Database) -> None:
    from tvm.s_tir.meta_schedule.database import TuningRecord

    task.timed += 1
    task.best_s = min(seconds, task.best_s or math.inf)
    database.commit_tuning_record(
        TuningRecord(candidate.sch.trace, task.workload, [seconds], target, candidate.args_info)
    )
