from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from autoopt.errors import FailureKind
from autoopt.records import Candidate, Eliminated, Failed, Measured
from autoopt.search.moves import neighbours
from autoopt.search.proposals import (
    View,
    begun,
    follow_ups,
    latecomers,
    local_moves,
    make_view,
    new,
    openers,
    practitioners_list,
    promotions,
    propose,
    worth_serving,
)
from autoopt.search.standings import Row
from autoopt.space import Space, Target, Value, choices_of, recompose
from autoopt.workers.entry import Standing

Outcomes = Callable[[Candidate, float, float], Measured]
# (engine, precision) to the unchanged network's latency in ms.
PLAIN = {
    ("runtime", "fp32"): 0.45,
    ("runtime", "int8"): 0.2,
    ("vino", "fp32"): 0.42,
    ("vino", "int8"): 0.21,
    ("eager", "fp32"): 1.9,
}


class Build:
    """Rows and views by hand."""

    def __init__(self, space: Space, reference: Candidate, outcome: Outcomes) -> None:
        self.space, self.reference, self.outcome = space, reference, outcome

    def plain(self) -> list[Row]:
        rows: list[Row] = [(0, self.reference, self.outcome(self.reference, 0.92, 2.0))]
        for number, proposal in enumerate(practitioners_list(self.space), start=1):
            served = proposal.candidate.deployment
            latency_ms = PLAIN[served.engine, served.precision]
            rows.append((number, proposal.candidate, self.outcome(proposal.candidate, 0.919, latency_ms)))
        return rows

    def candidate(self, engine: str = "runtime", precision: str = "int8", **choices: Value) -> Candidate:
        named = {name.replace("__", "."): value for name, value in choices.items()}
        return recompose(self.space, {"engine": engine, f"{engine}.cpu.precision": precision, **named})

    def view(self, extra: Iterable[tuple[Candidate, float, float]] = (), running: Iterable[Candidate] = ()) -> View:
        rows = self.plain()
        rows += [(100 + n, c, self.outcome(c, score, ms)) for n, (c, score, ms) in enumerate(extra)]
        view = make_view(self.space, rows, self.reference, running)
        assert view is not None
        return view


@pytest.fixture
def build(space: Space, reference: Candidate, outcome: Outcomes) -> Build:
    return Build(space, reference, outcome)


def test_the_practitioners_list_is_every_engine_and_precision_with_the_network_unchanged(space: Space) -> None:
    found = [proposal.candidate for proposal in practitioners_list(space)]
    assert [(c.deployment.engine, c.deployment.precision) for c in found] == list(PLAIN)
    assert all(space.network(candidate) == () for candidate in found)
    assert all(choices_of(space, candidate) is not None for candidate in found)


def test_there_is_no_view_before_the_reference_is_measured(space: Space, reference: Candidate) -> None:
    assert make_view(space, [], reference) is None


def test_openers_try_each_technique_gently_and_strongly_at_the_starting_rung_where_it_runs_fastest(
    build: Build,
) -> None:
    found = [proposal.candidate for proposal in openers(build.view())]
    assert {(c.deployment.engine, c.deployment.precision) for c in found} == {("runtime", "int8")}
    assert {build.space.trained_for(candidate) for candidate in found} == {0.0625}
    depths = {step.params["depth"] for c in found if (step := c.step("student"))}
    ratios = {step.params["ratio"] for c in found if (step := c.step("pruning"))}
    assert depths == {0.2, 0.4, 0.6, 0.8}
    assert ratios == {0.1, 0.2, 0.3, 0.4, 0.5}
    assert any(c.step("student") and c.step("pruning") for c in found)


def test_a_dear_network_is_proposed_in_every_deployment_that_could_put_it_on_the_front(build: Build) -> None:
    trained = build.candidate(student=True, student__depth=0.4, recovery__epochs=1.0)
    found = list(follow_ups(build.view([(trained, 0.915, 0.1)])))
    assert {(p.candidate.deployment.engine, p.candidate.deployment.precision) for p in found} == {("vino", "int8")}
    assert all(build.space.network(p.candidate) == build.space.network(trained) for p in found)


def test_follow_ups_are_ordered_by_promise_and_leave_out_what_is_known(build: Build) -> None:
    good = build.candidate(student=True, student__depth=0.4, recovery__epochs=1.0)
    better = build.candidate(student=True, student__depth=0.2, recovery__epochs=1.0)
    view = build.view([(good, 0.900, 0.12), (better, 0.915, 0.08)])
    found = list(follow_ups(view))
    assert found
    assert build.space.network(found[0].candidate) == build.space.network(better)
    assert [p.promise for p in found] == sorted((p.promise for p in found), reverse=True)
    again = build.view([(good, 0.900, 0.12), (better, 0.915, 0.08)], running=[p.candidate for p in found])
    assert list(follow_ups(again)) == []


def test_a_poor_network_has_no_follow_ups(build: Build) -> None:
    poor = build.candidate(student=True, student__depth=0.4, recovery__epochs=1.0)
    assert list(follow_ups(build.view([(poor, 0.80, 0.1)]))) == []


def test_a_network_near_the_front_is_promoted_to_the_next_rung_in_its_fastest_deployment(build: Build) -> None:
    promising = build.candidate(student=True, student__depth=0.4)
    slower = build.candidate("vino", "fp32", student=True, student__depth=0.4)
    poor = build.candidate(pruning=True, pruning__ratio=0.5, recovery__epochs=1.0)
    found = promotions(build.view([(promising, 0.90, 0.1), (slower, 0.902, 0.3), (poor, 0.5, 0.15)]))
    assert [proposal.candidate for proposal in found] == [
        build.candidate(student=True, student__depth=0.4, recovery__epochs=0.25)
    ]


def test_a_network_fresh_out_of_training_is_promoted_before_it_is_measured(
    build: Build, space: Space, reference: Candidate
) -> None:
    begun_one = build.candidate(student=True, student__depth=0.4)
    fresh = Standing(begun_one, 20.0, 20.5, epochs=0.0625, next_epochs=0.0, score=0.90)
    view = make_view(space, build.plain(), reference, [begun_one], [fresh])
    assert view is not None
    following = build.candidate(student=True, student__depth=0.4, recovery__epochs=0.25)
    assert [proposal.candidate for proposal in promotions(view)] == [following]
    again = make_view(space, build.plain(), reference, [begun_one, following], [fresh])
    assert again is not None
    assert promotions(again) == []
    assert not view.changed, "only what is measured is served otherwise"


def test_nothing_is_promoted_beyond_the_last_rung_or_twice(build: Build, space: Space, reference: Candidate) -> None:
    finished = build.candidate(student=True, student__depth=0.4, recovery__epochs=4.0)
    assert promotions(build.view([(finished, 0.90, 0.1)])) == []
    begun = build.candidate(student=True, student__depth=0.4)
    following = build.candidate(student=True, student__depth=0.4, recovery__epochs=0.25)
    assert promotions(build.view([(begun, 0.90, 0.1)], running=[following])) == []
    rows: list[Row] = [
        *build.plain(),
        (50, begun, build.outcome(begun, 0.9, 0.1)),
        (51, following, Eliminated("recovery 0.0625 epochs", "too slow")),
    ]
    view = make_view(space, rows, reference)
    assert view is not None
    assert promotions(view) == []


def test_neighbours_differ_by_one_step_and_a_new_network_begins_at_the_starting_rung(build: Build) -> None:
    space = build.space
    parent = build.candidate(student=True, student__depth=0.4, recovery__epochs=4.0)
    found = list(neighbours(space, parent))
    assert len({candidate.id for candidate in found}) == len(found) > 8
    for other in found:
        assert choices_of(space, other) is not None
        same = space.network(other) == space.network(parent)
        assert space.trained_for(other) in ({4.0} if same else {0.0625, None})
    depths = {step.params["depth"] for c in found if (step := c.step("student"))}
    assert depths == {0.2, 0.4, 0.6}
    assert any(c.step("student") is None for c in found)
    assert any(c.step("pruning") for c in found)


def test_local_search_begins_around_the_config_that_contributes_most(build: Build) -> None:
    best = build.candidate(student=True, student__depth=0.2, recovery__epochs=4.0)
    first = next(local_moves(build.view([(best, 0.918, 0.05)])))
    assert first.candidate.id in {candidate.id for candidate in neighbours(build.space, best)}


def test_proposals_are_never_known_and_come_in_order(build: Build) -> None:
    view = build.view()
    found = list(propose(view))
    assert found[0].why == "one technique by itself"
    assert not {proposal.candidate.id for proposal in found} & view.known
    assert len({p.candidate.id for p in found[:5]}) == 5


def test_what_is_begun_comes_before_what_is_new(build: Build) -> None:
    promising = build.candidate(student=True, student__depth=0.4)
    assert "may bring it forward" in next(propose(build.view([(promising, 0.90, 0.1)]))).why


def test_networks_that_nobody_has_begun_can_be_left_out(build: Build) -> None:
    promising = build.candidate(student=True, student__depth=0.4)
    waiting = build.candidate(student=True, student__depth=0.8)
    view = build.view([(promising, 0.90, 0.1)], running=[waiting])
    found = [proposal.candidate for proposal in (*begun(view), *new(view, networks=False))]
    assert found, "the network that is trained can be promoted and served otherwise"
    assert not any(view.begins(candidate) for candidate in found)
    assert any(view.begins(proposal.candidate) for proposal in propose(view))


def test_a_known_network_is_not_served_where_it_would_come_out_behind_the_front(build: Build) -> None:
    trained = build.candidate(student=True, student__depth=0.4, recovery__epochs=4.0)
    view = build.view([(trained, 0.915, 0.1)])
    eager = build.candidate("eager", "fp32", student=True, student__depth=0.4, recovery__epochs=4.0)
    assert eager.id in {candidate.id for candidate in neighbours(build.space, trained)}
    assert eager.id not in {proposal.candidate.id for proposal in local_moves(view)}


def test_a_known_network_is_not_served_by_an_engine_before_the_unchanged_one_is(build: Build) -> None:
    trained = build.candidate(student=True, student__depth=0.4, recovery__epochs=4.0)
    view = build.view([(trained, 0.915, 0.1)])
    engine = trained.deployment.engine
    other = build.candidate("vino", "fp32", student=True, student__depth=0.4, recovery__epochs=4.0)
    only_here = {served: ms for served, ms in view.learning.plain_ms.items() if served.engine == engine}
    untried = replace(view, learning=replace(view.learning, plain_ms=only_here))
    assert other.deployment.engine != engine
    assert not worth_serving(untried, other)
    again = replace(trained, deployment=replace(trained.deployment, threads=4))
    assert worth_serving(untried, again), "nothing is known of four threads, but the engine is"


def test_a_new_network_is_not_served_where_the_unchanged_one_is_slow(build: Build) -> None:
    view = build.view()
    here, eager = build.candidate(student=True), build.candidate("eager", "fp32", student=True)
    assert worth_serving(view, here)
    assert not worth_serving(view, eager)
    assert worth_serving(view, recompose(build.space, {"engine": "eager"})), "the unchanged network is tried everywhere"
    known = build.candidate("runtime", "fp32", student=True)
    assert not worth_serving(view, known)
    unknown = replace(here, deployment=replace(here.deployment, threads=4))
    assert not worth_serving(view, unknown), "the unchanged network comes first"


def test_where_the_unchanged_network_was_eliminated_its_probe_tells_how_slow_it_is(
    build: Build, space: Space, reference: Candidate
) -> None:
    rows = build.plain()
    slow = next(row for row in rows if row[1].deployment.engine == "vino" and row[1].deployment.precision == "fp32")
    rows[rows.index(slow)] = (slow[0], slow[1], Eliminated("latency", "too slow", speedup=1.5))
    view = make_view(space, rows, reference)
    assert view is not None
    assert not worth_serving(view, build.candidate("vino", "fp32", student=True))


@pytest.mark.parametrize("kind", [FailureKind.NOT_AS_ASKED, FailureKind.UNSUPPORTED, FailureKind.CRASHED])
def test_what_refuses_the_unchanged_network_is_not_asked_to_serve_a_changed_one(
    build: Build, space: Space, reference: Candidate, kind: FailureKind
) -> None:
    rows = build.plain()
    refused = next(row for row in rows if row[1].deployment.engine == "vino" and row[1].deployment.precision == "int8")
    rows[rows.index(refused)] = (refused[0], refused[1], Failed("probe", kind, "no"))
    view = make_view(space, rows, reference)
    assert view is not None
    assert (("vino", "int8") in view.refused) is (kind is not FailureKind.CRASHED), "a crash may be an accident"
    if view.refused:
        assert not worth_serving(view, build.candidate("vino", "int8", student=True))
    assert worth_serving(view, build.candidate("runtime", "int8", student=True))


def test_a_failed_candidate_is_not_proposed_again(build: Build, space: Space, reference: Candidate) -> None:
    rows: list[Row] = [(0, reference, build.outcome(reference, 0.92, 2.0))]
    first = practitioners_list(space)[0].candidate
    rows.append((1, first, Failed("build", FailureKind.UNSUPPORTED, "no")))
    view = make_view(space, rows, reference)
    assert view is not None
    assert first.id not in {proposal.candidate.id for proposal in propose(view)}


def test_what_takes_minutes_to_build_comes_after_a_first_network_was_tried(
    space: Space, reference: Candidate, outcome: Outcomes
) -> None:
    slow = replace(space, targets=(*space.targets, Target("compiler", "cpu", "fp32", ("default",), slow_build=True)))
    build = Build(slow, reference, outcome)
    assert [p.candidate.deployment.engine for p in practitioners_list(slow)] == [engine for engine, _ in PLAIN]
    assert list(latecomers(build.view())) == []
    network = build.candidate(student=True, student__depth=0.4)
    late = list(latecomers(build.view([(network, 0.91, 0.1)])))
    assert [p.candidate.deployment.engine for p in late] == ["compiler"]
    view = build.view()
    every_opener = [proposal.candidate for proposal in openers(view)]
    assert list(latecomers(build.view(running=every_opener))) == late, "there is nothing else to begin with"


def test_where_everything_takes_minutes_to_build_nothing_waits(space: Space) -> None:
    slow = replace(space, targets=tuple(replace(target, slow_build=True) for target in space.targets))
    assert len(practitioners_list(slow)) == len(space.targets)
