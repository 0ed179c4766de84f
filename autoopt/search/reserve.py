"""What confirming costs, and how much of the budget is kept back for it."""

from __future__ import annotations

from collections.abc import Sequence

from autoopt.front import Config
from autoopt.search.budget import BudgetClock
from autoopt.task.prepared import PreparedTask

# A measurement beyond judging: processes, loading, timing. The report and its bundle at the end.
MEASURE_S, REPORT_S = 5.0, 8.0
# Fewer test samples would confirm nothing.
SAMPLES_AT_LEAST = 500
# Such parts of the test split: a job that is run again should find what an earlier one confirmed, and no two have the same time left.
_PARTS, _SLACK = (1.0, 0.75, 0.5, 0.25, 0.1), 0.05
# Kept back before anything is known: what confirming so many configs takes that are on average so much faster than the
# original, but no more than a share of the budget.
_CONFIGS, _FASTER, _SHARE, _AT_LEAST_S = 12, 4.0, 0.2, 15.0


def cost_s(configs: Sequence[Config], samples: int) -> float:
    """Seconds that confirming takes."""
    return sum(MEASURE_S + samples * config.latency_ms.value / 1000 for config in configs)


def samples_for(configs: Sequence[Config], size: int, left_s: float | None) -> int:
    """How many test samples to confirm by: all ``size`` of them where the time allows, else the largest part for which it does."""
    if left_s is None:
        return size
    fixed_s = cost_s(configs, 0)
    affordable = (left_s - REPORT_S - fixed_s) / (cost_s(configs, 1) - fixed_s)
    part = next((part for part in _PARTS if part * size <= affordable * (1 + _SLACK)), 0.0)
    return min(size, max(int(part * size), SAMPLES_AT_LEAST))


def reserve_s(clock: BudgetClock, task: PreparedTask) -> float:
    """Seconds kept back for the end; 0 where time is no limit."""
    if clock.budget.seconds is None:
        return 0.0
    judging_s = task.splits["test"] * task.sample_ms / 1000
    needed_s = _CONFIGS * (MEASURE_S + judging_s / _FASTER) + REPORT_S
    return max(min(needed_s, _SHARE * clock.budget.seconds), _AT_LEAST_S)
