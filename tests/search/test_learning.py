"""What is hoped for and expected of training, from curves made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from autoopt.records import Candidate, Measured
from autoopt.search.learning import EXPECTED, HOPED, MARGIN, Learning, family_of, learn
from autoopt.search.standings import Row, Scale
from autoopt.space import Listed, ParameterChoice, Space, recompose

Outcomes = Callable[[Candidate, float, float], Measured]
SCALE = Scale(reference_score=0.92, reference_latency_ms=2.0, max_drop=0.05)


def curve(
    space: Space, ratio: float, scores: dict[float, float], outcome: Outcomes, latency_ms: float = 1.0
) -> list[Row]:
    rows = []
    for number, (epochs, score) in enumerate(scores.items()):
        candidate = recompose(space, {"pruning": True, "pruning.ratio": ratio, "recovery.epochs": epochs})
        rows.append((number, candidate, outcome(candidate, score, latency_ms)))
    return rows


def test_before_anything_is_known_the_hope_is_generous(space: Space) -> None:
    learning = learn(space, (), SCALE)
    assert learning.hoped[1.0] <= 4**-HOPED
    assert learning.optimistic(0.80, 0.0625, SCALE) > 0.90


def test_hope_is_learnt_from_networks_that_were_trained_on(space: Space, outcome: Outcomes) -> None:
    rows: list[Row] = []
    for ratio in (0.1, 0.2, 0.3):
        rows += curve(space, ratio, {0.0625: 0.82, 0.25: 0.83, 1.0: 0.84}, outcome)
    learning = learn(space, rows, SCALE)
    assert learning.hoped[0.0625] == pytest.approx(0.9 * MARGIN)
    assert learning.expected(0.82, 0.0625, 0.25, SCALE) == pytest.approx(0.83)
    assert 4.0 not in learning.hoped  # nobody goes on from the last rung
    assert learning.optimistic(0.82, 0.0625, SCALE) < learn(space, (), SCALE).optimistic(0.82, 0.0625, SCALE)


def test_hope_never_goes_beyond_the_reference_and_never_below_what_was_measured(space: Space) -> None:
    learning = learn(space, (), SCALE)
    for score in (0.5, 0.9, 0.92, 0.93):
        for epochs in (0.0625, 1.0, 4.0):
            assert score <= learning.optimistic(score, epochs, SCALE) <= max(score, SCALE.reference_score)
    assert learning.optimistic(0.9, 4.0, SCALE) == pytest.approx(0.9)
    assert Learning().optimistic(0.9, 1.0, SCALE) == pytest.approx(0.9)


def test_without_curves_a_rung_is_expected_to_leave_the_usual_share(space: Space) -> None:
    learning = learn(space, (), SCALE)
    assert learning.expected(0.82, 0.25, 1.0, SCALE) == pytest.approx(0.92 - 0.1 * 4**-EXPECTED)
    assert learning.expected(0.82, 0.25, 4.0, SCALE) == pytest.approx(0.92 - 0.1 * 16**-EXPECTED)
    assert learning.expected(0.82, 0.25, 0.25, SCALE) == pytest.approx(0.82)
    assert learning.expected(0.93, 0.25, 4.0, SCALE) == pytest.approx(0.93)


def test_a_family_that_loses_much_is_expected_to_lose_much(space: Space, outcome: Outcomes) -> None:
    plain = recompose(space, {"engine": "runtime", "runtime.cpu.precision": "fp32"})
    rows: list[Row] = [(0, plain, outcome(plain, 0.92, 1.0))]
    for ratio, score, latency_ms in ((0.1, 0.82, 0.8), (0.3, 0.42, 0.5)):
        pruned = recompose(
            space,
            {"engine": "runtime", "runtime.cpu.precision": "fp32", "pruning": True, "pruning.ratio": ratio},
        )
        assert space.trained_for(pruned) == 0.0625
        rows.append((len(rows), pruned, outcome(pruned, score, latency_ms)))
    learning = learn(space, rows, SCALE)
    family = family_of(space, rows[-1][1])
    assert family == ("pruning",)
    assert learning.doublings(plain.deployment, 0.25) == pytest.approx(2.0)
    losses = [SCALE.reference_score - learning.expected_start(family, d, SCALE) for d in (0.0, 0.5, 1.0)]
    assert losses[0] == 0.0
    assert losses[2] == pytest.approx(4 * losses[1])
    assert losses[2] == pytest.approx(0.5, rel=0.05), "as the strong one lost; the gentle one's timing says little"
    # Of a family that nobody has tried, what is known of the others is expected.
    assert learning.expected_start(("student",), 1.0, SCALE) == pytest.approx(SCALE.reference_score - losses[2])
    assert learn(space, (), SCALE).expected_start(("student",), 1.0, SCALE) > SCALE.reference_score - losses[2]


def test_ways_that_bear_names_are_families_of_their_own(space: Space) -> None:
    by_influence, late = (
        recompose(space, {"student": True, "student.depth": 0.4, "student.order": order})
        for order in ("influence", "late")
    )
    assert family_of(space, by_influence) != family_of(space, late)
    shallow = recompose(space, {"student": True, "student.depth": 0.8, "student.order": "influence"})
    assert family_of(space, shallow) == family_of(space, by_influence), "depth is an amount, not a name"


def test_a_parameter_that_does_not_apply_is_no_part_of_the_familys_name(space: Space) -> None:
    source = ParameterChoice("source", Listed(("blocks", "factory")), "blocks", "blocks")
    student = space.steps[0]
    depth, order = student.parameters
    tied = replace(student, parameters=(source, depth, replace(order, when={"student.source": ("blocks",)})))
    space = replace(space, steps=(tied, *space.steps[1:]))
    made, cut = (
        recompose(space, {"student": True, "student.source": source, "student.depth": 0.4})
        for source in ("factory", "blocks")
    )
    assert "order" not in made.model[0].params
    assert family_of(space, made) == ("student factory",)
    assert family_of(space, cut) == ("student blocks influence",)
