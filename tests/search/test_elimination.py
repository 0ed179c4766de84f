from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from autoopt.records import Candidate, Measured
from autoopt.search.elimination import RESERVE_S, Judge, could_enter, fits, make_judge, worth
from autoopt.search.learning import learn
from autoopt.search.standings import Scale, measured, pareto
from autoopt.space import Space
from autoopt.workers.entry import Standing

Outcomes = Callable[[Candidate, float, float], Measured]
SCALE = Scale(reference_score=0.92, reference_latency_ms=2.0, max_drop=0.05)
POINTS = ((0.92, 2.0), (0.919, 0.5), (0.90, 0.2))


def standing(
    candidate: Candidate, speedup: float, score: float | None = None, epochs: float = 0.0, **more: float
) -> Standing:
    return Standing(candidate, speedup, speedup * 1.05, epochs, more.pop("next_epochs", 1.0), score, **more)


@pytest.mark.parametrize(
    ("latency_ms", "score", "keep", "said"),
    [
        (0.1, 0.92, True, ""),
        (0.1, 0.88, True, ""),
        (0.3, 0.91, True, ""),
        (0.6, 0.919, False, "measured already: 0.5 ms"),
        (2.5, 0.92, False, "measured already: 2 ms"),
        (0.25, 0.90, False, "measured already: 0.2 ms"),
        (0.01, 0.86, False, "losses above 0.05 are not of interest"),
        (0.499, 0.919, False, "next to nothing"),
    ],
)
def test_only_what_no_measured_config_precedes_may_enter(
    latency_ms: float,
    score: float,
    keep: bool,  # noqa: FBT001 (a column of the table)
    said: str,
) -> None:
    verdict = could_enter(POINTS, latency_ms, score, SCALE)
    assert verdict.keep is keep
    assert said in verdict.reason
    assert (verdict.promise > 0) is keep or "next to nothing" in verdict.reason


def test_the_promise_grows_with_speed_and_with_score() -> None:
    promise = could_enter(POINTS, 0.1, 0.90, SCALE).promise
    assert could_enter(POINTS, 0.05, 0.90, SCALE).promise > promise
    assert could_enter(POINTS, 0.1, 0.91, SCALE).promise > promise


def test_what_takes_longer_than_there_is_does_not_fit() -> None:
    assert fits(10.0, 10.0)
    assert not fits(10.1, 10.0)
    assert fits(None, 10.0)
    assert fits(10.0, None)


def judge_of(space: Space) -> Judge:
    return Judge(POINTS, SCALE, learn(space, (), SCALE), space)


def test_an_untrained_candidate_is_judged_by_its_latency_alone(space: Space, reference: Candidate) -> None:
    judge = judge_of(space)
    slow = judge.judge(standing(reference, speedup=0.9), None)
    assert slow.eliminated is not None
    assert (slow.eliminated.rung, slow.eliminated.speedup) == ("latency", 0.9)
    fast = judge.judge(standing(reference, speedup=15.0), None)
    assert fast.eliminated is None
    assert fast.promise > 0


def test_the_optimistic_end_of_the_latencys_interval_decides(space: Space, reference: Candidate) -> None:
    judge = Judge(((0.92, 0.5),), SCALE, learn(space, (), SCALE), space)
    assert judge.judge(Standing(reference, 3.9, 3.95, 0.0, 1.0), None).eliminated is not None
    assert judge.judge(Standing(reference, 3.9, 4.5, 0.0, 1.0), None).eliminated is None


def test_a_score_that_cannot_recover_ends_it_at_its_rung(space: Space, reference: Candidate) -> None:
    judge = judge_of(space)
    hopeless = judge.judge(standing(reference, 30.0, score=0.3, epochs=1.0), None)
    assert hopeless.eliminated is not None
    assert hopeless.eliminated.rung == "recovery 1 epochs"
    assert hopeless.eliminated.score == 0.3
    assert judge.judge(standing(reference, 30.0, score=0.85, epochs=1.0), None).eliminated is None


def test_training_that_cannot_end_in_time_is_not_begun(space: Space, reference: Candidate) -> None:
    judge = judge_of(space)
    late = standing(reference, 30.0, score=0.9, epochs=1.0, next_epochs=3.0, seconds_per_epoch=20.0)
    ended = judge.judge(late, 30.0).eliminated
    assert ended is not None
    assert ended.rung == "budget"
    assert f"takes {60 + RESERVE_S:.0f} s" in ended.reason
    assert judge.judge(late, 100.0).eliminated is None
    assert judge.judge(late, None).eliminated is None


def test_an_untrained_network_promises_what_its_family_has_shown(space: Space, reference: Candidate) -> None:
    plain = {reference.deployment: 0.4}
    nothing = replace(learn(space, (), SCALE), plain_ms=plain)
    gentle = replace(nothing, steepness={(): 0.01})
    steep = replace(nothing, steepness={(): 0.5})
    promises = [
        Judge(POINTS, SCALE, learning, space).judge(standing(reference, 20.0), None).promise
        for learning in (gentle, steep)
    ]
    assert promises[0] > promises[1]


def test_training_is_worth_its_gain_by_second(space: Space) -> None:
    learning = learn(space, (), SCALE)
    new = worth(POINTS, SCALE, learning, 0.05, 0.88, 0.0)
    begun = worth(POINTS, SCALE, learning, 0.05, 0.88, 1.0)
    assert begun < new, "three epochs more for what one brings"
    assert worth(POINTS, SCALE, learning, 0.05, 0.90, 1.0) > begun
    assert worth(POINTS, SCALE, learning, 0.05, 0.88, 0.0, seconds_per_epoch=2.0) == pytest.approx(new / 2)


def test_what_the_time_does_not_allow_is_expected_of_nobody(space: Space) -> None:
    learning = learn(space, (), SCALE)

    def left(seconds: float) -> float:
        return worth(
            POINTS, SCALE, learning, 0.05, 0.90, 0.25, seconds_per_epoch=40.0, seconds_left=seconds + RESERVE_S
        )

    assert 0.0 < left(29.0) < left(31.0) <= left(1000.0), "below, there is only hope"


def test_there_is_no_judge_before_the_reference_is_measured(
    space: Space, reference: Candidate, outcome: Outcomes
) -> None:
    assert make_judge(space, [], reference) is None
    judge = make_judge(space, [(0, reference, outcome(reference, 0.92, 2.0))], reference)
    assert judge is not None
    assert judge.points == ((0.92, 2.0),)
    assert judge == make_judge(space, [(0, reference, outcome(reference, 0.92, 2.0))], reference)


def test_the_pareto_set_is_sorted_by_latency_and_holds_no_preceded_config(
    reference: Candidate, outcome: Outcomes
) -> None:
    points = [(0.9, 1.0), (0.91, 1.0), (0.8, 0.5), (0.79, 0.6), (0.92, 2.0), (0.92, 3.0)]
    rows = [(number, reference, outcome(reference, *point)) for number, point in enumerate(points)]
    assert [config.point for config in pareto(measured(rows))] == [(0.8, 0.5), (0.91, 1.0), (0.92, 2.0)]
