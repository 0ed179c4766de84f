from __future__ import annotations

from datetime import timedelta

import pytest

from autoopt.errors import BudgetError
from autoopt.search.budget import Budget, BudgetClock, BudgetLike, parse_budget


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("10m", Budget(seconds=600)),
        ("90s", Budget(seconds=90)),
        ("1h30m", Budget(seconds=5400)),
        ("1.5 hours", Budget(seconds=5400)),
        ("2 d", Budget(seconds=172800)),
        ("10 minutes", Budget(seconds=600)),
        ("60 candidates", Budget(candidates=60)),
        ("1 candidate", Budget(candidates=1)),
        ("60", Budget(candidates=60)),
        (60, Budget(candidates=60)),
        ("10m,60", Budget(seconds=600, candidates=60)),
        ("60 candidates, 1h", Budget(seconds=3600, candidates=60)),
        ("10m and 60 candidates", Budget(seconds=600, candidates=60)),
        (timedelta(minutes=3), Budget(seconds=180)),
        ({"seconds": 5, "candidates": 3}, Budget(seconds=5, candidates=3)),
        (Budget(seconds=1), Budget(seconds=1)),
    ],
)
def test_what_people_write_is_understood(given: BudgetLike, expected: Budget) -> None:
    assert parse_budget(given) == expected


@pytest.mark.parametrize(
    "given",
    ["", " ", "0s", "0", 0, -1, "-5m", "ten minutes", "10m,5m", "3,4", "10x", "1.5 candidates", True, None, {},
     {"minutes": 3}, {"candidates": 1.5}, timedelta(0), "10m,"],
)  # fmt: skip
def test_a_budget_of_nothing_is_refused_and_says_what_is_allowed(given: BudgetLike) -> None:
    with pytest.raises(BudgetError, match="Allowed are a time"):
        parse_budget(given)


def test_a_budget_reads_back_as_it_is_shown() -> None:
    for given in ("1h1m1s", "10m", "60 candidates", "1h, 1 candidate"):
        assert parse_budget(str(parse_budget(given))) == parse_budget(given)


def test_time_and_candidates_run_out_whichever_comes_first() -> None:
    now = 100.0
    clock = BudgetClock(Budget(seconds=10, candidates=4), clock=lambda: now)
    assert (clock.left_s, clock.left(1), clock.exhausted(3)) == (10.0, 3, False)
    assert clock.exhausted(4)
    now = 200.0
    assert clock.left_s == 0.0
    assert clock.exhausted(0)


def test_what_a_resumed_job_used_before_counts() -> None:
    clock = BudgetClock(Budget(seconds=10), used_s=8, clock=lambda: 0.0)
    assert clock.left_s == 2.0
    assert clock.left(1000) is None
