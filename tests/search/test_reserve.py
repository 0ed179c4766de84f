"""How much is kept back for confirming, and by how many samples it confirms."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from autoopt.front import Config
from autoopt.search.budget import Budget, BudgetClock
from autoopt.search.reserve import (
    MEASURE_S,
    REPORT_S,
    SAMPLES_AT_LEAST,
    confirms_by_all,
    cost_s,
    reserve_s,
    samples_for,
)
from autoopt.task import PreparedTask


def configs(*latencies_ms: float, scenario: str = "single_stream") -> list[Config]:
    return [
        cast(
            "Config",
            SimpleNamespace(
                id=f"{each}",
                latency_ms=SimpleNamespace(value=each),
                validation=SimpleNamespace(scenario=scenario),
            ),
        )
        for each in latencies_ms
    ]


def task(test: int, sample_ms: float) -> PreparedTask:
    return cast("PreparedTask", SimpleNamespace(splits={"test": test}, sample_ms=sample_ms))


def test_confirming_costs_judging_and_what_every_measurement_costs() -> None:
    assert cost_s(configs(1.0, 3.0), 1000, ahead=False) == pytest.approx(2 * MEASURE_S + 4.0)
    assert cost_s(configs(1.0, 30.0), 1000, ahead=True) == pytest.approx(MEASURE_S + 30.0)


def test_the_whole_test_split_confirms_where_the_time_allows() -> None:
    assert samples_for(configs(1.0, 3.0), 10_000, left_s=None) == 10_000
    assert samples_for(configs(1.0, 3.0), 10_000, left_s=1000.0) == 10_000


def test_a_part_of_it_confirms_in_the_time_that_there_is() -> None:
    wanted = configs(20.0, 30.0)
    samples = samples_for(wanted, 10_000, left_s=100.0)
    assert samples == 1000
    assert cost_s(wanted, samples, ahead=False) + REPORT_S <= 100.0


def test_a_job_with_a_little_more_time_confirms_by_the_same_samples() -> None:
    wanted = configs(1.0, 3.0)
    assert {samples_for(wanted, 10_000, left_s) for left_s in (48.0, 50.0, 53.0)} == {7500}


def test_what_is_confirmed_already_costs_nothing_unless_a_part_must_do() -> None:
    wanted = configs(1.0, 30.0)
    assert samples_for(wanted, 1000, left_s=30.0) < 1000
    assert samples_for(wanted, 1000, left_s=30.0, known={"30.0"}) == 1000
    assert samples_for(wanted, 1000, left_s=12.0, known={"30.0"}) == SAMPLES_AT_LEAST


def test_the_whole_split_is_expected_to_be_used_where_its_share_of_the_budget_allows() -> None:
    assert confirms_by_all(BudgetClock(Budget(600.0)), task(10_000, 2.5))
    assert not confirms_by_all(BudgetClock(Budget(600.0)), task(10_000, 25.0))
    assert confirms_by_all(BudgetClock(Budget(candidates=60)), task(10_000, 25.0))


def test_too_few_samples_would_confirm_nothing() -> None:
    assert samples_for(configs(50.0), 10_000, left_s=1.0) == SAMPLES_AT_LEAST
    assert samples_for(configs(50.0), 200, left_s=1.0) == 200


@pytest.mark.parametrize(("seconds", "test", "sample_ms"), [(600.0, 10_000, 2.7), (1800.0, 3_000, 25.0)])
def test_a_slow_network_keeps_back_no_more_than_a_share_of_the_budget(
    seconds: float, test: int, sample_ms: float
) -> None:
    clock = BudgetClock(Budget(seconds))
    assert reserve_s(clock, task(test, sample_ms)) <= 0.2 * seconds
    assert reserve_s(clock, task(test, 100 * sample_ms)) == pytest.approx(0.2 * seconds)


def test_a_fast_network_keeps_back_about_what_confirming_takes() -> None:
    assert reserve_s(BudgetClock(Budget(600.0)), task(1000, 1.0)) < 100.0
    assert reserve_s(BudgetClock(Budget(3600.0)), task(1000, 1.0)) < 150.0
    assert reserve_s(BudgetClock(Budget(candidates=60)), task(1000, 1.0)) == 0.0


def test_a_long_job_keeps_more_back_than_it_needs() -> None:
    short, long = (reserve_s(BudgetClock(Budget(seconds=seconds)), task(5000, 2.0)) for seconds in (600.0, 1800.0))
    assert short < long <= 2 * short


def test_judging_that_adds_next_to_nothing_is_not_cut() -> None:
    assert samples_for(configs(1.0, 2.0, scenario="server"), 1000, left_s=30.0) == 1000
    assert samples_for(configs(1.0, 20.0, scenario="server"), 1000, left_s=30.0) == SAMPLES_AT_LEAST
    assert confirms_by_all(BudgetClock(Budget(480.0)), task(1000, 2.0), "server")
    assert not confirms_by_all(BudgetClock(Budget(480.0)), task(10_000, 20.0), "server")


def test_a_server_keeps_more_back_since_its_timing_cannot_be_cut() -> None:
    clock = BudgetClock(Budget(480.0))
    three = cost_s(configs(1.0, 1.0, 1.0, scenario="server"), 1000, ahead=True)
    assert three <= reserve_s(clock, task(1000, 2.0), "server") <= 0.3 * 480
