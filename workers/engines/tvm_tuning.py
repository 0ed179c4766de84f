"""MetaSchedule under a time limit: schedules are drawn from TVM's design space of each task, compiled and timed.

Drawing at random is what a minute is best spent on. A trial costs 0.3 s, nearly all of it the compiler's; MetaSchedule's evolutionary
search with its learnt cost model draws and mutates so many schedules for each one that it times that a convolution's 12 s of processor
time were 16 to 24 trials and 38–103 µs, against 32 to 40 trials and 41–49 µs at random (theoretical peak of the core: 40 µs).

Every trial is a forked child: it can crash, or be killed for taking too long, and it dies with the build.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import struct
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.workers.process import system

if TYPE_CHECKING:
    from pathlib import Path

    from tvm.ir import IRModule
    from tvm.s_tir.meta_schedule.database import Database
    from tvm.target import Target

TRIALS = 96
"""The most schedules that are drawn for one task."""
FEW_TRIALS, SMALL_SHARE = 6, 0.01
"""Tasks that take less than this share of the network's time get so many trials at most."""
TRIAL_LIMIT_S = 10
"""Of processor time."""
PATIENCE = 4
"""A build runs when nobody else wants its cores. By the clock alone, how good TVM is would depend on who else was busy; so the clock
only ends what takes so many times longer than its processor time should."""
_REPEATS, _REPEAT_S = 8, 1e-3
_HOPELESS = 3.0
"""A schedule whose second call takes so many times longer than the best is not timed again."""


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
        program: calls of fused loop nests, as `tvm_import.to_tasks` gives them.
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
    _warm(target)
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
        context.pre_tuning(TRIALS, 1, context.generate_design_space(), database)
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
    from tvm.s_tir.meta_schedule.schedule_rule import ParallelizeVectorizeUnroll, ScheduleRule

    rules = list(ScheduleRule.create("llvm"))
    if threads > 1:
        return rules
    alone = ParallelizeVectorizeUnroll(max_jobs_per_core=-1, max_vectorize_extent=64, unroll_max_steps=[0, 16, 64, 512])
    return [alone if isinstance(rule, ParallelizeVectorizeUnroll) else rule for rule in rules]


def _warm(target: Target) -> None:
    """Compile something: what the first compilation of a process sets up (1.4 s), every child then has."""
    import tvm
    from tvm import te

    array = te.placeholder((16,), name="array")
    doubled = te.compute((16,), lambda i: array[i] * 2.0, name="doubled")
    tvm.compile(te.create_prim_func([array, doubled]), target=target).jit()


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
    from tvm.s_tir.meta_schedule.database import TuningRecord
    from tvm.s_tir.meta_schedule.runner import RunnerResult
    from tvm_ffi import structural_hash

    candidates = task.context.generate_measure_candidates()
    if not candidates:
        task.exhausted = True
        return
    candidate = candidates[0]
    task.drawn += 1
    name = structural_hash(candidate.sch.mod)
    seconds = None if name in task.seen else time_in_child(candidate, target, threads, task.best_s)
    task.seen.add(name)
    task.context.notify_runner_results([candidate], [RunnerResult([seconds] if seconds else None, None)])
    if seconds is None:
        task.exhausted = task.best_s is None and task.drawn >= FEW_TRIALS
        return
    task.timed += 1
    task.best_s = min(seconds, task.best_s or seconds)
    database.commit_tuning_record(
        TuningRecord(candidate.sch.trace, task.workload, [seconds], target, candidate.args_info)
    )


def time_in_child(candidate: Any, target: Target, threads: int, best_s: float | None) -> float | None:
    """Seconds that a call of the candidate takes, least of a few times; None where it cannot be compiled or run."""
    reader, writer = os.pipe()
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python 3.12 warns where the parent has threads; the child uses none
        child = os.fork()
    if child == 0:
        _be_child(parent, writer, candidate, target, threads, best_s)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], PATIENCE * TRIAL_LIMIT_S)
        told = os.read(reader, 8) if ready else b""
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return struct.unpack("d", told)[0] if told else None


def _be_child(parent: int, writer: int, candidate: Any, target: Target, threads: int, best_s: float | None) -> None:
    """Compile, run, write the time, end; never returns."""
    try:
        system.die_with_parent(parent)
        resource.setrlimit(resource.RLIMIT_CPU, (TRIAL_LIMIT_S, TRIAL_LIMIT_S))
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        os.environ.update({"TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": "0"})
        # In a thread of its own: TVM's pool belongs to the thread that calls it, and the parent's workers were not forked.
        with ThreadPoolExecutor(1) as thread:
            seconds = thread.submit(_seconds, candidate, target, best_s).result()
        os.write(writer, struct.pack("d", seconds))
    except Exception:  # noqa: BLE001, S110 (a schedule that fails, however it does, is one that was not timed)
        pass
    finally:
        os._exit(0)


def _seconds(candidate: Any, target: Target, best_s: float | None) -> float:
    import tvm
    from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

    module = RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(candidate.sch.mod)
    compiled = tvm.compile(module, target=target).jit()
    call = compiled["main"]
    arguments = [_argument(info) for info in candidate.args_info]
    call(*arguments)
    start = time.perf_counter()
    call(*arguments)
    once = time.perf_counter() - start
    if best_s is not None and once > _HOPELESS * best_s + 20e-6:
        return once
    number = max(1, round(_REPEAT_S / max(once, 1e-7)))
    evaluate = compiled.time_evaluator("main", tvm.cpu(), number=number, repeat=_REPEATS)
    return float(min(evaluate(*arguments).results))


def _argument(info: Any) -> Any:
    """Random floats; zeros for integers, which may be positions."""
    import tvm

    shape, dtype = tuple(int(extent) for extent in info.shape), str(info.dtype)
    random = np.random.default_rng(0)
    values = random.random(shape) if dtype.startswith(("float", "bfloat")) else np.zeros(shape)
    return tvm.runtime.tensor(values.astype(dtype))
