"""A candidate's way through its stages, with stages that only say what was asked of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from autoopt.errors import FailureKind, StageError
from autoopt.records import (
    Candidate,
    Deployment,
    Effective,
    Eliminated,
    Estimate,
    Failed,
    Fidelity,
    Latency,
    Measured,
    Measurement,
    StageRun,
    Step,
    from_json,
    to_json,
)
from autoopt.records import environment as environments
from autoopt.workers.entry import OpenGate, Postponed, Standing, against_reference, evaluate
from autoopt.workers.stages.execute import Result
from autoopt.workers.stages.setup import Setup
from autoopt.workers.stages.stage import Stage

TIMING = {"speedup": {"value": 5.0, "low": 4.9, "high": 5.1}}
STUDENT = Step("student", {"source": "blocks", "depth": 0.5, "order": "late", "width": 1.0})
RECOVERY = Step("recovery", {"epochs": 1.0, "rate": 0.05})
PLAIN = Candidate((), Deployment("onnxruntime"))
TRAINED = Candidate((STUDENT, RECOVERY), Deployment("onnxruntime"))


class Reached(Exception):  # noqa: N818 (no error: how far the candidate came)
    """The measurement was asked for."""


@dataclass
class Recorder:
    asked: list[str] = field(default_factory=list)

    def __call__(self, stage: Stage) -> Result:
        self.asked.append(f"{stage.kind} {stage.name}")
        if stage.kind == "measure":
            raise Reached
        facts: dict[str, Any] = {"score": 0.9, "seconds_per_epoch": 30.0, **TIMING}
        return Result(StageRun(stage.kind, stage.name, stage.key, cached=False, started_at=0.0, seconds=1.0), facts)


@dataclass
class HandGate(OpenGate):
    ends: Eliminated | Postponed | None = None
    anything: bool = True
    seen: list[Standing] = field(default_factory=list)

    def compares(self) -> bool:
        return self.anything

    def admit(self, standing: Standing) -> Eliminated | Postponed | None:
        self.seen.append(standing)
        if isinstance(self.ends, Postponed):
            return replace(self.ends, standing=standing)
        return self.ends


def test_an_artifact_is_timed_before_it_is_judged_and_ends_there_if_it_is_beaten(setup: Setup) -> None:
    run, gate = Recorder(), HandGate(Eliminated("latency", "too slow", 5.0))
    outcome = evaluate(PLAIN, setup, run, gate)
    assert isinstance(outcome, Eliminated)
    assert run.asked[-1] == "probe none"
    assert not any(stage.startswith("measure") for stage in run.asked)
    assert [stage.kind for stage in outcome.stages][-1] == "probe"
    assert gate.seen[0].cached, "it needs no trainer"


def test_what_is_timed_first_is_the_artifact_that_will_be_judged(setup: Setup) -> None:
    run = Recorder()
    with pytest.raises(Reached):
        evaluate(PLAIN, setup, run, HandGate())
    assert run.asked[-3:] == ["build onnxruntime", "probe none", "measure validation"]


@pytest.mark.parametrize("why", ["nothing to compare with", "measured before"])
def test_nothing_is_timed_first_where_it_could_save_nothing(setup: Setup, why: str) -> None:
    run = Recorder()
    with pytest.raises(Reached):
        evaluate(PLAIN, setup, run, HandGate(anything=why == "measured before"), lambda _: why == "measured before")
    assert "probe none" not in run.asked


def test_what_was_measured_before_passes_no_gate(setup: Setup) -> None:
    run, gate = Recorder(), HandGate(Eliminated("latency", "too slow"))
    with pytest.raises(Reached):
        evaluate(TRAINED, setup, run, gate, lambda stage: stage.kind in {"build", "measure"})
    assert run.asked == ["build onnxruntime", "measure validation"]
    assert not gate.seen


def test_a_candidate_is_postponed_with_what_its_stages_cost(setup: Setup) -> None:
    run = Recorder()
    outcome = evaluate(TRAINED, setup, run, HandGate(Postponed(Standing(TRAINED, 1.0, 1.0, 0.0, 0.0))))
    assert isinstance(outcome, Postponed)
    assert outcome.standing.speedup == 5.0
    assert outcome.standing.next_epochs == 0.25
    assert [stage.kind for stage in outcome.stages][-1] == "probe"
    assert "technique recovery" not in run.asked


def test_a_stage_that_fails_is_the_candidates_outcome(setup: Setup) -> None:
    def run(stage: Stage) -> Result:
        raise StageError(FailureKind.CRASHED, "killed by SIGSEGV")

    outcome = evaluate(PLAIN, setup, run, OpenGate())
    assert isinstance(outcome, Failed)
    assert outcome.kind is FailureKind.CRASHED


def test_what_other_hardware_serves_is_told_in_the_jobs_figures(setup: Setup) -> None:
    """The reference takes 10 ms on the job's hardware and 40 ms on the edge: 5 times faster there is 1.25 times faster."""
    ours = setup.hardware["default"]
    setup = replace(setup, hardware={"default": ours, "edge": replace(ours, lane=2)})
    took = {1: 10.0, 2: 40.0}

    def run(stage: Stage) -> Result:
        facts: dict[str, Any] = dict(TIMING)
        if stage.kind == "measure":
            latency_ms = took[stage.params["lane"]]
            own = stage.params["deployment"]["engine"] == "pytorch"
            facts = measured(latency_ms, 1.0) if own else measured(latency_ms / 5.0, 5.0)
        return Result(StageRun(stage.kind, stage.name, stage.key, cached=False, started_at=0.0, seconds=1.0), facts)

    here, there = (
        evaluate(Candidate((), Deployment("onnxruntime", hardware=name)), setup, run, OpenGate())
        for name in ("cpu", "edge")
    )
    assert isinstance(here, Measured)
    assert isinstance(there, Measured)
    assert here.measurement.speedup == Estimate(5.0, 5.0, 5.0)
    assert there.measurement.speedup.value == pytest.approx(1.25)
    assert there.measurement.latency_ms.value == pytest.approx(8.0)


def test_what_was_timed_against_two_references_is_as_uncertain_as_both(setup: Setup) -> None:
    taken = from_json(Measurement, measured(8.0, 5.0))
    told = against_reference(taken, Estimate(4.0, 3.8, 4.2), reference_ms=10.0)
    assert told.speedup.low == pytest.approx(5.0 / 4.2)
    assert told.speedup.high == pytest.approx(5.0 / 3.8)
    assert told.latency_ms.low == pytest.approx(10.0 / told.speedup.high)


def measured(latency_ms: float, speedup: float) -> dict[str, Any]:
    exact = {
        name: Estimate(value, value, value) for name, value in (("ms", latency_ms), ("speed", speedup), ("one", 1.0))
    }
    record = Measurement(
        candidate_id="",
        split="validation",
        samples=1,
        scenario="single_stream",
        speedup=exact["speed"],
        latency_ms=exact["ms"],
        score=exact["one"],
        score_drop=exact["one"],
        agreement=1.0,
        latency=Latency(latency_ms, latency_ms, latency_ms, latency_ms, 16, 16, 0),
        fidelity=Fidelity(1.0, 0.0, 0.0, 1),
        size_bytes=1,
        peak_rss_bytes=1,
        load_s=0.0,
        first_ms=1.0,
        effective=Effective("1", "cpu", "fp32", 1),
        environment=environments.current(),
        taken_at="",
    )
    told: dict[str, Any] = to_json(record)
    return told
