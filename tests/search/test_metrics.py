"""What is told to Ray, and that it never costs a job anything. That it arrives is seen in `tests/main_job/test_watching.py`."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from autoopt.records import Candidate, Deployment, Measured, StageRun
from autoopt.records.job import FrontEntry, Progress
from autoopt.search import metrics
from autoopt.search.metrics import JobMetrics, StageFeed

Told = list[tuple[str, float, dict[str, str]]]
JOB = {"autoopt_job": "a", "task": "digits"}
BEST = FrontEntry("0" * 12, "x", speedup=4.0, latency_ms=0.5, score=0.9, score_drop=0.0)
BUILD = StageRun("build", "openvino", "k", cached=False, started_at=0.0, seconds=2.5)
FOUND = StageRun("export", "onnx", "l", cached=True, started_at=0.0, seconds=0.0)
TRAINED = StageRun("technique", "recovery", "m", cached=False, started_at=0.0, seconds=60.0)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """In Ray's place: whether it runs."""
    stands_in = SimpleNamespace(runs=True)
    stands_in.is_initialized = lambda: stands_in.runs
    monkeypatch.setitem(sys.modules, "ray", stands_in)
    return stands_in


@pytest.fixture
def told(ray: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Told:
    """What Ray's instruments are given."""
    heard: Told = []

    def instrument(name: str) -> Callable[[float, dict[str, str]], None]:
        return lambda value, labels: heard.append((name, value, labels))

    monkeypatch.setattr(metrics, "_instrument", instrument)
    return heard


@pytest.fixture
def job() -> JobMetrics:
    return JobMetrics("a", "digits")


def test_progress_is_told_as_gauges(job: JobMetrics, told: Told) -> None:
    job.progress(Progress(measured=3, eliminated=2, failed=1, best=BEST, goal_met=True, hypervolume=1.5))
    assert told == [
        ("autoopt_candidates", 3, JOB | {"outcome": "measured"}),
        ("autoopt_candidates", 2, JOB | {"outcome": "eliminated"}),
        ("autoopt_candidates", 1, JOB | {"outcome": "failed"}),
        ("autoopt_hypervolume", 1.5, JOB),
        ("autoopt_best_latency_ms", 0.5, JOB),
        ("autoopt_best_speedup", 4.0, JOB),
    ]


def test_what_misses_the_goal_is_not_the_best_within_it(job: JobMetrics, told: Told) -> None:
    job.progress(Progress(best=BEST, goal_met=False, hypervolume=0.0))
    assert {name for name, _, _ in told} == {"autoopt_candidates", "autoopt_hypervolume"}


def test_a_stage_counts_by_where_it_came_from_and_its_work_is_timed(job: JobMetrics, told: Told) -> None:
    job.stage(BUILD, "cuda")
    job.stage(FOUND)
    build, export = JOB | {"kind": "build", "hardware": "cuda"}, JOB | {"kind": "export", "hardware": "cpu"}
    assert told == [
        ("autoopt_stages", 1, build | {"source": "computed"}),
        ("autoopt_stage_seconds", 2.5, build),
        ("autoopt_stages", 1, export | {"source": "store"}),
    ]


def test_techniques_are_told_apart(job: JobMetrics, told: Told) -> None:
    job.stage(TRAINED)
    assert told[0][2]["kind"] == "recovery"


def test_a_stage_that_fails_has_held_its_slot_too(job: JobMetrics, told: Told) -> None:
    with pytest.raises(ZeroDivisionError), job.holding("lane"):
        raise ZeroDivisionError
    [(name, seconds, labels)] = told
    assert (name, labels) == ("autoopt_slot_seconds", JOB | {"slot": "lane"})
    assert seconds > 0


def test_every_outcome_counts_once(
    job: JobMetrics, told: Told, outcome: Callable[[Candidate, float, float], Measured]
) -> None:
    candidate = Candidate((), Deployment("x", hardware="cuda"))
    measured = outcome(candidate, 0.9, 1.0)
    ended = Measured(measured.measurement, measured.artifact_key, stages=(BUILD, FOUND))
    feed = StageFeed(job)
    feed.skip([(0, candidate, ended)])
    feed.told([(0, candidate, ended)])
    assert told == [], "an earlier run's"
    for _ in range(2):
        feed.told([(0, candidate, ended), (1, candidate, ended)])
    assert [labels["kind"] for name, _, labels in told if name == "autoopt_stages"] == ["build", "export"]
    assert {labels["hardware"] for _, _, labels in told} == {"cuda"}


def test_what_is_heard_before_ray_runs_is_told_when_it_does(job: JobMetrics, told: Told, ray: SimpleNamespace) -> None:
    ray.runs = False
    feed = StageFeed(job)
    feed.ran_here(SimpleNamespace(role="lane"), BUILD)  # type: ignore[arg-type] # as far as it is looked at
    assert told == []
    ray.runs = True
    feed.ran(FOUND)
    kinds = [name for name, _, _ in told]
    assert kinds == ["autoopt_stages", "autoopt_stage_seconds", "autoopt_slot_seconds", "autoopt_stages"]


def test_what_goes_wrong_is_logged_once_and_stops_nobody(
    job: JobMetrics, ray: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str) -> Callable[[float, dict[str, str]], None]:
        message = f"{name}: no agent"
        raise ConnectionError(message)

    monkeypatch.setattr(metrics, "_instrument", broken)
    monkeypatch.setattr(metrics, "_complained", set())
    job.progress(Progress(measured=1))
    job.held("lane", 1.0)
    assert [record.getMessage() for record in caplog.records] == [
        "the job's metrics are not told to Ray: ConnectionError: autoopt_candidates: no agent"
    ]


def test_without_ray_it_is_not_even_imported() -> None:
    program = (
        "import sys\nfrom autoopt.search.metrics import JobMetrics\nJobMetrics('a', 'b').held('lane', 1.0)\n"
        "raise SystemExit('ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_travels_to_the_nodes(job: JobMetrics) -> None:
    assert pickle.loads(pickle.dumps(job)) == job
