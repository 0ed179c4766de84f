"""Equal resources, asserted: what ran is what was asked, in threads, precision and hardware.

A runtime that falls back silently (to another device, to FP32, to more threads) would win or lose a comparison that never took place.
"""

from __future__ import annotations

import os

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment, Effective

# What an engine may report for a precision that was asked.
_ALSO = {"int8_dynamic": ("int8",)}
# A thread that takes less than this share of the busiest one's time hands work over; it does not compute.
_COMPUTES = 0.25


def lane(cores: tuple[int, ...]) -> tuple[int, ...]:
    """The lane's processors; by default, all that this process may use."""
    return cores or tuple(sorted(os.sched_getaffinity(0)))


def cores_for(deployment: Deployment, cores: tuple[int, ...]) -> tuple[int, ...]:
    """A core for each thread: so no engine can take more than was asked, whatever it starts.

    Raises:
        StageError: NOT_AS_ASKED where there are fewer cores than threads.
    """
    if deployment.threads > len(cores):
        message = f"{deployment.threads} threads were asked for, but the lane has {len(cores)} cores ({cores})"
        raise StageError(FailureKind.NOT_AS_ASKED, message)
    return cores[: deployment.threads]


def require_as_asked(effective: Effective, deployment: Deployment) -> None:
    """Compare what really ran with what was asked.

    Raises:
        StageError: NOT_AS_ASKED, naming every difference.
    """
    pairs = (
        ("hardware", effective.hardware, (deployment.hardware,)),
        ("precision", effective.precision, (deployment.precision, *_ALSO.get(deployment.precision, ()))),
        ("threads", effective.threads, (deployment.threads,)),
    )
    wrong = [f"{name} {ran} instead of {asked[0]}" for name, ran, asked in pairs if ran not in asked]
    if wrong:
        details = ", ".join(f"{name}: {value}" for name, value in effective.details.items())
        message = f"{deployment.engine} ran {', '.join(wrong)}" + (f" ({details})" if details else "")
        raise StageError(FailureKind.NOT_AS_ASKED, message)


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
