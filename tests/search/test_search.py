"""The whole pure search against a landscape that is known, where seconds are counted and not spent.

The landscape has the traits of real ones (a table of measured ResNets): the best engine changes with the shape, INT8 gains less
on small networks, latency falls in steps, short training ranks networks before it finishes them, and choices interact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from statistics import mean

from optuna.storages import InMemoryStorage

from autoopt.records import Candidate, Eliminated, Measured, Outcome
from autoopt.search.elimination import Judge, make_judge
from autoopt.search.proposals import make_view, practitioners_list, propose
from autoopt.search.standings import Point, Row, Scale, measured
from autoopt.search.study import CandidateStudy, Proposal
from autoopt.space import Space, draw
from autoopt.workers.entry import Standing

Outcomes = Callable[[Candidate, float, float], Measured]
REFERENCE_SCORE, REFERENCE_MS = 0.92, 2.0
BUDGET_S = 600.0
EPOCH_S, MEASURE_S, PROBE_S = 60.0, 4.0, 3.0
SCALE = Scale(REFERENCE_SCORE, REFERENCE_MS, 0.05)
_BASE_MS = {"eager": 1.9, "runtime": 0.45, "vino": 0.42}


def shape(candidate: Candidate) -> tuple[float, float]:
    """The shares of depth and of channels that are left."""
    student, pruning = candidate.step("student"), candidate.step("pruning")
    return (
        float(student.params["depth"]) if student else 1.0,
        1.0 - (float(pruning.params["ratio"]) if pruning else 0.0),
    )


def latency_ms(candidate: Candidate) -> float:
    depth, width = shape(candidate)
    served = candidate.deployment
    work = 0.08 + 0.92 * depth * (math.ceil(width * 8) / 8) ** 1.3
    time_ms = _BASE_MS[served.engine] * work
    if served.precision == "int8":
        # A constant cost of quantizing eats the gain of small networks; the engines differ in it.
        time_ms = time_ms * 0.42 + (0.02 if served.engine == "runtime" else 0.012)
    return time_ms * (1.05 if served.fusion == "basic" else 1.0)


def loss(candidate: Candidate, epochs: float) -> float:
    """What the score loses to the reference's after so much training."""
    depth, width = shape(candidate)
    recovery, student = candidate.step("recovery"), candidate.step("student")
    final = 0.012 * (1 - depth) ** 2 * 3 + 0.05 * (1 - width) ** 1.5 + 0.03 * (1 - depth) * (1 - width)
    final *= 1.3 if student and student.params["order"] == "late" else 1.0
    if recovery:
        final *= 1.0 + abs(math.log(float(recovery.params["rate"]) / 0.05)) / 4
    untrained = 0.3 * (1 - depth) + 0.5 * (1 - width)
    quantized = 0.001 + 0.01 * (1 - width) if candidate.deployment.precision == "int8" else 0.0
    return final + untrained * math.exp(-3.2 * epochs**0.35) + quantized


@dataclass
class Landscape:
    """Evaluates candidates as workers would, and counts the seconds that this would take."""

    space: Space
    outcome: Outcomes
    seconds: float = 0.0
    finished: set[str] = field(default_factory=set)

    def evaluate(self, candidate: Candidate, judge: Judge | None) -> Outcome:
        target = self.space.trained_for(candidate)
        if target is not None:
            ended = self._train(candidate, target, judge)
            if ended is not None:
                return ended
        self.seconds += MEASURE_S
        return self.outcome(candidate, REFERENCE_SCORE - loss(candidate, target or 0.0), latency_ms(candidate))

    def _train(self, candidate: Candidate, target: float, judge: Judge | None) -> Eliminated | None:
        """Probe, then climb the rungs; what was trained before costs nothing, as with a store."""
        self._once(f"probe {candidate.id}", PROBE_S)
        done, score = 0.0, None
        for rung in (rung for rung in self.space.rungs if rung <= target):
            speedup = REFERENCE_MS / latency_ms(candidate)
            standing = Standing(candidate, speedup, speedup * 1.01, done, rung - done, score, EPOCH_S)
            ended = judge.judge(standing, BUDGET_S - self.seconds).eliminated if judge else None
            if ended is not None:
                return ended
            depth, width = shape(candidate)
            network = [(s.technique, {**s.params, "epochs": rung}) for s in self.space.network(candidate) if s.params]
            self._once(f"train {network}", EPOCH_S * (rung - done) * (0.1 + 0.9 * depth * width))
            score, done = REFERENCE_SCORE - loss(candidate, rung), rung
        return None

    def _once(self, key: str, seconds: float) -> None:
        self.seconds += 0.0 if key in self.finished else seconds
        self.finished.add(key)


def volume(rows: list[Row]) -> float:
    points: list[Point] = [config.point for config in measured(rows)]
    return SCALE.volume(points)


def full_search(space: Space, reference: Candidate, outcome: Outcomes, seed: int) -> list[Row]:
    study = CandidateStudy(InMemoryStorage(), space, seed=seed)
    study.enqueue([Proposal(reference, "reference"), *practitioners_list(space)])
    landscape, rows = Landscape(space, outcome), []
    while landscape.seconds < BUDGET_S:
        view = make_view(space, rows, reference)
        asked = study.ask(propose(view) if view else ())
        assert asked is not None
        study.tell(asked.number, landscape.evaluate(asked.candidate, make_judge(space, rows, reference)))
        rows = [(decided.number, decided.candidate, decided.outcome) for decided in study.outcomes()]
    return rows


def random_search(space: Space, reference: Candidate, outcome: Outcomes, seed: int) -> list[Row]:
    """The same practitioner's list, the same seconds; then candidates drawn evenly, each trained to its end."""
    random, landscape = Random(seed), Landscape(space, outcome)
    rows: list[Row] = []
    todo = [reference, *(proposal.candidate for proposal in practitioners_list(space))]
    while landscape.seconds < BUDGET_S:
        candidate = todo.pop(0) if todo else draw(space, random)
        rows.append((len(rows), candidate, landscape.evaluate(candidate, None)))
    return rows


def test_the_search_beats_random_search_of_the_same_seconds(
    space: Space, reference: Candidate, outcome: Outcomes
) -> None:
    searched = [full_search(space, reference, outcome, seed) for seed in range(3)]
    drawn = [random_search(space, reference, outcome, seed) for seed in range(3)]
    listed = [(0, reference, outcome(reference, REFERENCE_SCORE, REFERENCE_MS))]
    landscape = Landscape(space, outcome)
    listed += [(1, p.candidate, landscape.evaluate(p.candidate, None)) for p in practitioners_list(space)]
    start = volume(listed)
    assert mean(map(volume, searched)) - start > 1.2 * (mean(map(volume, drawn)) - start)
    assert min(map(volume, searched)) > mean(map(volume, drawn))
