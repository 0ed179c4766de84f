"""Equal resources, asserted: what ran is what was asked, in threads, precision and hardware.

A runtime that falls back silently (to another device, to FP32, to more threads) would win or lose a comparison that never took place.
"""

from __future__ import annotations

import os

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment, Effective
from autoopt.workers.measure.records import Executed

# What an engine may report for a precision that was asked.
_ALSO = {"int8_dynamic": ("int8",)}
# A thread that takes less than this share of the busiest one's time hands work over; it does not compute.
_COMPUTES = 0.25


def lane(cores: tuple[int, ...]) -> tuple[int, ...]:
    """The lane's processors; by default, all that this process may use."""
    return cores or tuple(sorted(os.sched_getaffinity(0)))


def cores_for(deployment: Deployment, cores: tuple[int, ...]) -> tuple[int, ...]:
    """A core for each thread of each instance: so no engine can take more than was asked, whatever it starts.

    Raises:
        StageError: NOT_AS_ASKED where there are fewer cores than threads.
    """
    if deployment.cores > len(cores):
        copies = f"{deployment.instances} instances with " if deployment.instances > 1 else ""
        message = f"{copies}{deployment.threads} threads were asked for, but the lane has {len(cores)} cores ({cores})"
        raise StageError(FailureKind.NOT_AS_ASKED, message)
    return cores[: deployment.cores]


def require_as_asked(effective: Effective, deployment: Deployment, executed: Executed) -> None:
    """Compare what really ran with what was asked.

    Raises:
        StageError: NOT_AS_ASKED, naming every difference.
    """
    wrong = [
        f"{name} {ran} instead of {asked}"
        for name, ran, asked in (
            ("hardware", effective.hardware, deployment.hardware),
            ("threads", effective.threads, deployment.threads),
        )
        if ran != asked
    ]
    wrong += _wrong_precision(effective, deployment, executed)
    if wrong:
        details = ", ".join(f"{name}: {value}" for name, value in effective.details.items())
        message = f"{deployment.engine} ran {', '.join(wrong)}" + (f" ({details})" if details else "")
        raise StageError(FailureKind.NOT_AS_ASKED, message)


def _wrong_precision(effective: Effective, deployment: Deployment, executed: Executed) -> list[str]:
    """By the nodes that execute it and the time that these take, as far as the runtime tells; else by what it calls itself."""
    asked = deployment.precision
    names = (asked, *_ALSO.get(asked, ()))
    if not effective.nodes:
        return [] if effective.precision in names else [f"precision {effective.precision} instead of {asked}"]
    total, mine = sum(effective.nodes.values()), sum(effective.nodes.get(name, 0) for name in names)
    wrong = []
    if mine < executed.nodes * total:
        wrong.append(f"{mine} of {total} compute nodes in {asked} (at least {executed.nodes:.0%} are to be)")
    time = sum(effective.time.get(name, 0.0) for name in names)
    if effective.time and time < executed.time:
        wrong.append(f"{time:.0%} of their time in {asked} (at least {executed.time:.0%} is to be)")
    return wrong


def require_threads(thread_ns: tuple[int, ...], deployment: Deployment) -> None:
    """See that no more threads computed than were asked for.

    Args:
        thread_ns: processor time of each thread, the busiest first.
        deployment: what was asked.

    Raises:
        StageError: NOT_AS_ASKED.
    """
    computing = [spent for spent in thread_ns if spent > _COMPUTES * thread_ns[0]]
    if len(computing) > deployment.threads:
        shares = ", ".join(f"{spent / sum(thread_ns):.0%}" for spent in computing)
        message = (
            f"{deployment.engine} computed in {len(computing)} threads (their shares: {shares}), "
            f"though {deployment.threads} were asked for"
        )
        raise StageError(FailureKind.NOT_AS_ASKED, message)
