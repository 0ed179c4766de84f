"""Evaluate one candidate: run its stages in the order that wastes least, and end in an outcome.

Latency first: the untrained structure is served and timed, and only a candidate that could still enter the front is
trained, rung by rung. What decides is a `Gate`, handed in: workers know nothing of the search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from autoopt.errors import FailureKind, StageError
from autoopt.records import (
    Candidate,
    Deployment,
    Eliminated,
    Estimate,
    Failed,
    Measured,
    Measurement,
    Outcome,
    StageRun,
    from_json,
)
from autoopt.records.estimates import ratio
from autoopt.workers.stages import plan
from autoopt.workers.stages.execute import Result
from autoopt.workers.stages.plan import Network, Rung, Serving
from autoopt.workers.stages.setup import Setup
from autoopt.workers.stages.stage import Stage

Runner: TypeAlias = Callable[[Stage], Result]
"""Runs a stage somewhere and returns its result; raises StageError where it failed."""
Known: TypeAlias = Callable[[Stage], bool]
"""Whether the store has the stage's result."""


@dataclass(frozen=True)
class Standing:
    """What is known of a candidate when the gate is asked."""

    candidate: Candidate
    speedup: float
    """As probed: the reference's time per sample divided by the untrained structure's."""
    speedup_high: float
    """The upper end of its interval."""
    epochs: float
    """Trained so far; 0 before training."""
    next_epochs: float
    """What the next rung adds; 0 after the last."""
    score: float | None = None
    """After the last rung, on validation data, in the training framework."""
    seconds_per_epoch: float | None = None
    cached: bool = False
    """Whether going on needs no trainer: the store has the next rung, or nothing is to be trained."""


@dataclass(frozen=True)
class Postponed:
    """No outcome: the candidate has come as far as it can without training, and others train first."""

    standing: Standing
    stages: tuple[StageRun, ...] = ()


class Gate(Protocol):
    """Decides whether a candidate goes on. May wait (until a trainer is free, say)."""

    def compares(self) -> bool:
        """Whether there is anything by which a candidate could be beaten: else timing it first is a waste."""

    def admit(self, standing: Standing) -> Eliminated | Postponed | None:
        """None to go on to the next rung; how it ends where the candidate ends here, or comes again later."""

    def release(self, standing: Standing) -> None:
        """The candidate has trained all that it is to train: others may."""


class OpenGate:
    """The null gate: everybody goes on."""

    def compares(self) -> bool:
        """There is nothing."""
        return False

    def admit(self, standing: Standing) -> Eliminated | Postponed | None:  # noqa: ARG002 (the protocol's)
        """Go on."""
        return None

    def release(self, standing: Standing) -> None:
        """Nobody waits."""


@dataclass
class _Journey:
    """A candidate on its way: where it is, and what its stages cost so far."""

    run: Runner
    known: Known
    stage: Stage | None = None
    runs: list[StageRun] = field(default_factory=list)
    slower: Estimate | None = None
    """How much longer the reference takes on the candidate's hardware than on the job's; None where that is the same."""
    reference_ms: float = 0.0
    """The latency of the job's, where it is not the same."""

    def go(self, stages: Iterable[Stage]) -> dict[str, Any]:
        """Run stages in order; the facts of the last."""
        facts: dict[str, Any] = {}
        for stage in stages:
            self.stage = stage
            result = self.run(stage)
            self.runs.append(result.run)
            facts = result.facts
        return facts


def against_reference(measurement: Measurement, slower: Estimate | None, reference_ms: float) -> Measurement:
    """A measurement in the job's figures: its speed-up is over the job's reference, also where that is on other hardware.

    Two latencies that were not timed in turn are compared, so the interval takes in what both references may be wrong by.

    Args:
        measurement: as taken, against the reference on its own hardware.
        slower: how much longer that one takes than the job's; None where it is the same.
        reference_ms: the latency of the job's.
    """
    if slower is None:
        return measurement
    speedup = ratio(measurement.speedup, slower)
    latency_ms = Estimate(reference_ms / speedup.value, reference_ms / speedup.high, reference_ms / speedup.low)
    return replace(measurement, speedup=speedup, latency_ms=latency_ms)


def slower_reference(
    deployment: Deployment, setup: Setup, facts_of: Callable[[Iterable[Stage]], dict[str, Any]]
) -> tuple[Estimate | None, float]:
    """How much longer the reference takes on a deployment's hardware than on the job's, and the latency of the job's in ms.

    Args:
        deployment: names the hardware.
        setup: the job's.
        facts_of: runs stages in order and returns the facts of the last.
    """
    own = setup.reference.deployment
    if deployment.kind == own.kind:
        return None, 0.0
    theirs, ours = (
        from_json(Measurement, facts_of(plan.reference_on(each, setup).stages)).latency_ms for each in (deployment, own)
    )
    return ratio(theirs, ours), ours.value


def evaluate(
    candidate: Candidate, setup: Setup, run: Runner, gate: Gate, known: Known = lambda _: False
) -> Outcome | Postponed:
    """Take a candidate through its stages; one that was postponed finds what it has finished in the store.

    Failures of stages are outcomes; only errors that are not the candidate's (`StoreError`) are raised.
    """
    journey = _Journey(run, known)
    try:
        outcome = _evaluate(candidate, setup, journey, gate)
    except StageError as error:
        if error.kind is FailureKind.OVER_BOUND:
            return Eliminated("p99 bound", error.message, stages=tuple(journey.runs))
        label = journey.stage.label if journey.stage else "plan"
        return Failed(label, error.kind, error.message, error.log, tuple(journey.runs))
    return outcome


def _evaluate(candidate: Candidate, setup: Setup, journey: _Journey, gate: Gate) -> Outcome | Postponed:
    journey.slower, journey.reference_ms = slower_reference(candidate.deployment, setup, journey.go)
    stages, network = plan.structure(candidate, setup)
    # A plan that cannot be served is told before anything is paid for.
    plan.measurement(candidate, network, setup, "validation")
    rungs = plan.training(candidate, network, setup)
    trained = rungs[-1].network if rungs else network
    serving = plan.measurement(candidate, trained, setup, "validation")
    if journey.known(serving.stages[-1]):
        # Measured before: no gate has anything to save.
        every = (*stages, *(stage for rung in rungs for stage in rung.stages), *serving.stages)
        return _measured(serving, journey.go(filter(journey.known, every)), journey)
    journey.go(stages)
    if rungs:
        ended = _train(candidate, network, rungs, setup, journey, gate)
        if ended is not None:
            return ended
    remaining = serving.stages
    if not rungs and gate.compares():
        ended = _look(candidate, serving, setup, journey, gate)
        if ended is not None:
            return ended
        remaining = serving.stages[-1:]
    return _measured(serving, journey.go(remaining), journey)


def _measured(serving: Serving, facts: dict[str, Any], journey: _Journey) -> Measured:
    measurement = against_reference(from_json(Measurement, facts), journey.slower, journey.reference_ms)
    return Measured(measurement, serving.artifact_key, serving.smaller, tuple(journey.runs))


def _look(
    candidate: Candidate, serving: Serving, setup: Setup, journey: _Journey, gate: Gate
) -> Eliminated | Postponed | None:
    """Time an artifact that needs no training before it is judged, which is what costs: a slow one may be beaten already."""
    timing = journey.go((*serving.stages[:-1], plan.look(candidate, serving, setup)))
    ended = gate.admit(_standing(candidate, timing, journey, cached=True))
    return ended and replace(ended, stages=tuple(journey.runs))


def _standing(candidate: Candidate, timing: dict[str, Any], journey: _Journey, **known: Any) -> Standing:
    speedup = from_json(Estimate, timing["speedup"])
    if journey.slower is not None:
        speedup = ratio(speedup, journey.slower)
    return Standing(candidate, speedup.value, speedup.high, **{"epochs": 0.0, "next_epochs": 0.0} | known)


def _train(
    candidate: Candidate, network: Network, rungs: tuple[Rung, ...], setup: Setup, journey: _Journey, gate: Gate
) -> Eliminated | Postponed | None:
    """Probe, then climb the rungs; what the gate says where it does not go to the end."""
    timing = journey.go(plan.probe(candidate, network, setup).stages)
    facts: dict[str, Any] = {}
    done = 0.0

    def standing(next_epochs: float, *, cached: bool = False) -> Standing:
        return _standing(
            candidate,
            timing,
            journey,
            epochs=done,
            next_epochs=next_epochs,
            score=facts.get("score"),
            seconds_per_epoch=facts.get("seconds_per_epoch"),
            cached=cached,
        )

    for rung in rungs:
        ended = gate.admit(standing(rung.step_epochs, cached=journey.known(rung.stages[-1])))
        if ended is not None:
            return replace(ended, stages=tuple(journey.runs))
        facts = journey.go(rung.stages)
        done = rung.epochs
    gate.release(standing(0.0))
    return None
