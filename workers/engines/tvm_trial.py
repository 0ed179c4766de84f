"""One trial: a schedule compiled and timed in a forked child, which can crash or hang, and dies with the build."""

from __future__ import annotations

import os
import resource
import select
import signal
import struct
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.workers.process import system

if TYPE_CHECKING:
    from tvm.target import Target

TRIAL_LIMIT_S = 10
"""Of processor time."""
PATIENCE = 4
"""A build runs when nobody else wants its cores. By the clock alone, how good TVM is would depend on who else was busy; so the clock
only ends what takes so many times longer than its processor time should."""
_REPEATS, _REPEAT_S = 8, 1e-3
_HOPELESS = 3.0
"""A schedule whose second call takes so many times longer than the best is not timed again."""


def warm(target: Target) -> None:
    """Compile something: what the first compilation of a process sets up (1.4 s), every child then has."""
    import tvm
    from tvm import te

    array = te.placeholder((16,), name="array")
    doubled = te.compute((16,), lambda i: array[i] * 2.0, name="doubled")
    tvm.compile(te.create_prim_func([array, doubled]), target=target).jit()


def time_in_child(candidate: Any, target: Target, threads: int, best_s: float | None) -> float | None:
    """Seconds that a call of the candidate takes, least of a few times; None where it cannot be compiled or run."""
    reader, writer = os.pipe()
    parent = os.getpid()
    with warnings.catch_warnings():
        # Python 3.12 warns where the parent has threads. The child waits for none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
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
