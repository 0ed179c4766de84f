from __future__ import annotations

from autoopt.report import ReportData
from autoopt.report.census import census, rungs, totals


def test_every_candidate_is_counted_once(data: ReportData) -> None:
    assert sum(line.count for line in census(data.rows)) == len(data.rows) == 60
    assert sum(totals(data.rows).values()) == 60


def test_causes_of_failure_are_told_apart_with_an_example_each(data: ReportData) -> None:
    lines = {line.cause: line for line in census(data.rows) if line.outcome == "failed"}
    assert {"crashed", "timed out", "diverged", "unsupported", "not as asked", "disagreement"} <= lines.keys()
    assert lines["crashed"].stage == "measure inductor"
    assert lines["crashed"].example == "died by SIGSEGV"
    assert data.rows[lines["crashed"].example_number].outcome.message == "died by SIGSEGV"  # type: ignore[union-attr] # a Failed


def test_measured_comes_first_and_counts_fall_within_an_outcome(data: ReportData) -> None:
    lines = census(data.rows)
    assert lines[0].outcome == "measured"
    failed = [line.count for line in lines if line.outcome == "failed"]
    assert failed == sorted(failed, reverse=True)


def test_rungs_tell_how_fast_what_they_dropped_was(data: ReportData) -> None:
    by_name = {rung.name: rung for rung in rungs(data.rows)}
    assert by_name["latency"].count == by_name["latency"].probed == 3
    assert by_name["recovery 0.5 epochs"].median_speedup == 16.0


def test_no_candidates_give_an_empty_census() -> None:
    assert census(()) == ()
    assert totals(()) == {"measured": 0, "eliminated": 0, "failed": 0}
