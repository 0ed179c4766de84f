from __future__ import annotations

from collections.abc import Callable

import pytest

from autoopt.report import ReportData
from autoopt.report.progress import growth, stage_times


def test_the_front_never_shrinks_and_starts_at_the_reference(data: ReportData) -> None:
    speedups = [moment.mean_speedup for moment in growth(data)]
    assert speedups[0] == pytest.approx(1)
    assert speedups == sorted(speedups)
    assert speedups[-1] > 10


def test_moments_are_seconds_since_the_start(data: ReportData) -> None:
    moments = growth(data)
    assert (moments[0].elapsed_s, moments[0].number) == (8.0, 0)
    assert moments[-1].elapsed_s <= data.ended_at - data.started_at


def test_stage_times_add_up_to_all_work(data: ReportData) -> None:
    times = stage_times(data.rows)
    assert {time.kind for time in times} == {"technique", "build", "measure"}
    assert sum(time.runs + time.cached for time in times) == sum(len(row.outcome.stages) for row in data.rows)


def test_without_a_front_there_is_no_growth(make_data: Callable[..., ReportData]) -> None:
    assert growth(make_data(0)) == ()
