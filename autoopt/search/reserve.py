"""What confirming costs, and how much of the budget is kept back for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from autoopt.front import Config
from autoopt.search.budget import BudgetClock
from autoopt.task.prepared import PreparedTask

# A measurement beyond judging: processes, loading, timing; of a server, the search for its rate. The report and its bundle at the end.
MEASURE_S, LOAD_S, REPORT_S = 5.0, 40.0, 8.0
# Fewer test samples would confirm nothing.
SAMPLES_AT_LEAST = 500
# Such parts of the test split: a job that is run again should find what an earlier one confirmed, and no two have the same time left.
_PARTS, _SLACK = (1.0, 0.75, 0.5, 0.25, 0.1), 0.05
_HARDLY_MORE = 1.1
# Kept back before anything is known: what confirming so many configs takes that are on average so much faster than the
# original (which is confirmed early), but no more than a share of the budget.
_CONFIGS, _FASTER, _AT_LEAST_S = 12, 8.0, 15.0
# A server's timing takes most of a minute and cannot be cut like a test split.
_SHARE, _SERVER_SHARE = 0.2, 0.3
# A long job can afford to be careful: a machine gets slower, a front longer, and half of a test split tells half as much.
_CAREFUL, _CAREFUL_SHARE = 2.0, 0.07


def cost_s(configs: Sequence[Config], samples: int, *, ahead: bool) -> float:
    """Seconds that confirming takes; ``ahead``: each is judged while the one before is timed."""
    parts = [(measuring_s(config.validation.scenario), samples * config.latency_ms.value / 1000) for config in configs]
    return sum(max(part) if ahead else sum(part) for part in parts)


def measuring_s(scenario: str) -> float:
    """Seconds of a measurement without the judging."""
    return MEASURE_S + (LOAD_S if scenario == "server" else 0.0)


def samples_for(
    configs: Sequence[Config],
    size: int,
    left_s: float | None,
    known: Collection[str] = frozenset(),
    *,
    ahead: bool = False,
) -> int:
    """How many test samples to confirm by: all ``size`` of them where the time allows, else the largest part for which it does.

    Judging that adds next to nothing to the timing is not cut: a server's takes a minute, and its judging a second.

    ``known``: identifiers of configs that need not be measured on all samples any more; ``ahead``: see `cost_s`.
    """
    if left_s is None:
        return size
    for part in _PARTS:
        samples = min(size, max(int(part * size), SAMPLES_AT_LEAST))
        open_ = [config for config in configs if samples < size or config.id not in known]
        cost = cost_s(open_, samples, ahead=ahead)
        if cost + REPORT_S <= left_s * (1 + _SLACK) or cost <= _HARDLY_MORE * cost_s(open_, 0, ahead=ahead):
            return samples
    return min(size, SAMPLES_AT_LEAST)


def reserve_s(clock: BudgetClock, task: PreparedTask, scenario: str = "single_stream") -> float:
    """Seconds kept back for the end; 0 where time is no limit."""
    if clock.budget.seconds is None:
        return 0.0
    needed = _needed_s(task, scenario)
    careful = min(_CAREFUL * needed, _CAREFUL_SHARE * clock.budget.seconds)
    return max(min(max(needed, careful), _most_s(clock.budget.seconds, scenario)), _AT_LEAST_S)


def confirms_by_all(clock: BudgetClock, task: PreparedTask, scenario: str = "single_stream") -> bool:
    """Whether the whole test split will probably be used."""
    if clock.budget.seconds is None:
        return True
    needed, timing = _needed_s(task, scenario), _timing_s(scenario)
    return needed <= _most_s(clock.budget.seconds, scenario) or needed <= _HARDLY_MORE * timing


def _needed_s(task: PreparedTask, scenario: str) -> float:
    judging_s = task.splits["test"] * task.sample_ms / 1000
    return _timing_s(scenario) + _CONFIGS * judging_s / _FASTER


def _timing_s(scenario: str) -> float:
    return _CONFIGS * measuring_s(scenario) + REPORT_S


def _most_s(budget_s: float, scenario: str) -> float:
    return (_SERVER_SHARE if scenario == "server" else _SHARE) * budget_s
