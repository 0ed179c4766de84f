"""The conductor with outcomes made by hand: who waits outside, who is called, who waits in vain."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.storages import InMemoryStorage

from autoopt.errors import StoreError
from autoopt.records import Candidate, Eliminated, Measured, StageRun
from autoopt.search.budget import Budget, BudgetClock
from autoopt.search.capacity import Capacity
from autoopt.search.conductor import ONE_NODE, PROBED_AT_ONCE, REPLAYED_AT_ONCE, Conductor, Row, at_first, in_flight
from autoopt.search.desk import QUEUE_A_TRAINER, Seats
from autoopt.search.proposals import practitioners_list
from autoopt.search.study import CandidateStudy, Proposal
from autoopt.space import Space
from autoopt.workers.entry import Postponed, Standing

Outcomes = Callable[[Candidate, float, float], Measured]
PROBED = StageRun("probe", "none", "key", cached=False, started_at=0.0, seconds=2.0)


class Search:
    """A conductor whose unchanged networks have all been measured."""

    def __init__(self, space: Space, reference: Candidate, outcome: Outcomes, budget: Budget) -> None:
        self.study = CandidateStudy(InMemoryStorage(), space, sampler="random")
        self.space, self.outcome = space, outcome
        self.told: list[Row] = []
        self.now = 0.0
        clock = BudgetClock(budget, clock=lambda: self.now)
        self.conductor = Conductor(self.study, reference, clock, self._hear)
        self.study.enqueue([Proposal(reference, "reference"), *practitioners_list(space)])
        while self.study.waits:
            number, candidate = self.ask()
            self.conductor.tell(number, outcome(candidate, 0.919, 2.0 if candidate == reference else 0.4))

    def _hear(self, rows: object) -> None:
        self.told = list(rows)  # type: ignore[call-overload]

    def ask(self) -> tuple[int, Candidate]:
        asked = self.conductor.next()
        assert asked is not None
        return asked

    def postpone(self, number: int, candidate: Candidate, speedup: float) -> None:
        standing = Standing(candidate, speedup, speedup, epochs=0.0, next_epochs=0.0625)
        self.conductor.postpone(number, Postponed(standing, (PROBED,)))

    def new_network(self) -> tuple[int, Candidate]:
        """The next candidate; those that come first and need no training are measured."""
        while True:
            number, candidate = self.ask()
            if self.space.trained_for(candidate) is not None:
                return number, candidate
            self.conductor.tell(number, self.outcome(candidate, 0.919, 0.4))


def test_who_listens_and_cannot_go_on_ends_the_search(space: Space, reference: Candidate, outcome: Outcomes) -> None:
    full = StoreError("no room")

    def listen(_: object) -> None:
        raise full

    study = CandidateStudy(InMemoryStorage(), space, sampler="random")
    study.enqueue([Proposal(reference, "reference"), *practitioners_list(space)])
    conductor = Conductor(study, reference, BudgetClock(Budget(600.0, None)), listen)
    asked = conductor.next()
    assert asked is not None
    conductor.tell(asked[0], outcome(reference, 0.919, 2.0))
    assert conductor.stopping
    assert len(conductor.outcomes()) == 1, "what was told is kept"
    with pytest.raises(StoreError, match="no room"):
        conductor.check()


@pytest.fixture
def start(space: Space, reference: Candidate, outcome: Outcomes) -> Callable[..., Search]:
    def begin(seconds: float | None = 600.0, candidates: int | None = None) -> Search:
        return Search(space, reference, outcome, Budget(seconds, candidates))

    return begin


def test_networks_on_their_way_are_few_and_those_postponed_make_room_for_others(start: Callable[..., Search]) -> None:
    search = start()
    others = [search.new_network() for _ in range(PROBED_AT_ONCE)]
    while (asked := search.conductor.next()) is not None:
        assert search.space.trained_for(asked[1]) is None, "no third network is begun"
        search.conductor.tell(asked[0], search.outcome(asked[1], 0.919, 0.4))
    desk = frozenset(candidate.id for _, candidate in others)
    search.conductor.review(Seats(desk | {"two", "more"}))
    following = search.new_network()
    assert following[1].id not in desk


def test_the_most_promising_of_those_postponed_is_called_when_there_is_a_seat(start: Callable[..., Search]) -> None:
    search = start()
    slow, fast = search.new_network(), search.new_network()
    search.postpone(*slow, 5.5)
    search.postpone(*fast, 8.0)
    next_called = search.conductor.review(Seats())
    assert next_called.best is not None
    assert next_called.best.candidate == fast[1]
    assert search.ask() == fast, "under its own number: the same candidate, not another"
    assert search.ask() == slow


def test_every_trainer_has_a_candidate_before_anything_is_known() -> None:
    large = Capacity(lanes=2, trainers=32, spare=0)
    assert at_first(large) >= large.trainers
    assert at_first(large) <= in_flight(large)
    assert at_first(ONE_NODE) == 2, "where one core is for everything, the first config comes before many others"


def test_what_earlier_jobs_decided_is_asked_for_a_few_at_a_time(
    space: Space, reference: Candidate, outcome: Outcomes
) -> None:
    study = CandidateStudy(InMemoryStorage(), space, sampler="random")
    study.enqueue([Proposal(reference, "reference"), *practitioners_list(space)])
    conductor = Conductor(study, reference, BudgetClock(Budget(600.0, None)), lambda _: None, replays=True)
    first = conductor.next()
    assert first is not None
    begun = at_first(ONE_NODE)
    assert [conductor.next() is None for _ in range(begun)] == [False] * (begun - 1) + [True]
    conductor.tell(first[0], outcome(reference, 0.92, 2.0))
    further = [conductor.next() for _ in range(REPLAYED_AT_ONCE - (begun - 1))]
    assert all(further)
    assert conductor.next() is None
    assert further[0] is not None
    conductor.tell(further[0][0], outcome(further[0][1], 0.919, 0.4))
    assert conductor.next() is not None


def test_the_desk_hears_how_many_networks_are_on_their_way(start: Callable[..., Search]) -> None:
    search = start()
    first, second = search.new_network(), search.new_network()
    assert search.conductor.review(Seats()).coming == 2
    assert search.conductor.review(Seats(frozenset({first[1].id}))).coming == 1, "one has come"
    search.postpone(*second, 8.0)
    assert search.conductor.review(Seats()).coming == 0


def test_the_desk_hears_when_nobody_builds_or_measures(start: Callable[..., Search]) -> None:
    search = start()
    first, second = search.new_network(), search.new_network()
    assert not search.conductor.review(Seats(frozenset({first[1].id}))).idle, "the second is probed"
    search.postpone(*second, 8.0)
    assert not search.conductor.review(Seats()).idle, "the first is probed"
    assert search.conductor.review(Seats(frozenset({first[1].id}))).idle


def test_who_trains_on_lent_cores_takes_nobodys_seat(start: Callable[..., Search]) -> None:
    search = start()
    at_desk = [search.new_network()[1].id for _ in range(1 + QUEUE_A_TRAINER)]
    waiting = search.new_network()
    search.postpone(*waiting, 20.0)
    search.conductor.review(Seats(frozenset(at_desk), beyond=1))
    assert search.ask() == waiting


def test_nobody_is_called_while_the_desk_is_full(start: Callable[..., Search]) -> None:
    search = start()
    at_desk = []
    for _ in range(1 + QUEUE_A_TRAINER):
        asked = search.new_network()
        at_desk.append(asked[1].id)
        search.conductor.review(Seats(frozenset(at_desk)))
    waiting = search.new_network()
    search.postpone(*waiting, 20.0)
    assert search.ask() != waiting
    search.conductor.review(Seats(frozenset(at_desk[1:])))
    assert search.ask() == waiting


def test_who_waits_in_vain_is_eliminated_and_what_its_probe_cost_is_kept(
    start: Callable[..., Search], outcome: Outcomes
) -> None:
    search = start()
    waiting, better = search.new_network(), search.new_network()
    search.postpone(*waiting, 10.0)
    search.conductor.tell(better[0], outcome(better[1], 0.92, 0.1))
    search.conductor.review(Seats())
    (told,) = [row for row in search.told if row[0] == waiting[0]]
    assert isinstance(told[2], Eliminated)
    assert told[2].rung == "latency"
    assert told[2].stages == (PROBED,)


def test_nobody_is_called_for_whom_the_trainer_will_be_free_too_late(start: Callable[..., Search]) -> None:
    search = start()
    number, candidate = search.new_network()
    standing = Standing(candidate, 8.0, 8.0, epochs=0.0, next_epochs=0.0625, seconds_per_epoch=1600.0)
    search.conductor.postpone(number, Postponed(standing, (PROBED,)))
    search.conductor.review(Seats(busy_s=480.0))
    assert number not in [told for told, _, _ in search.told], "100 s are needed, and 12 s to serve and measure it"
    search.conductor.review(Seats(busy_s=500.0))
    (told,) = [row for row in search.told if row[0] == number]
    assert isinstance(told[2], Eliminated)
    assert told[2].rung == "budget"


def test_at_the_end_those_who_wait_are_eliminated_for_want_of_time(start: Callable[..., Search]) -> None:
    search = start()
    waiting = search.new_network()
    search.postpone(*waiting, 20.0)
    search.now = 600.0
    search.conductor.close()
    (told,) = [row for row in search.told if row[0] == waiting[0]]
    assert isinstance(told[2], Eliminated)
    assert told[2].rung == "budget"
    assert not search.study.running()


def test_where_the_search_was_stopped_they_wait_for_its_going_on(start: Callable[..., Search]) -> None:
    search = start()
    waiting = search.new_network()
    search.postpone(*waiting, 20.0)
    search.conductor.stop()
    search.conductor.close()
    assert waiting[0] not in [number for number, _, _ in search.told]
    assert search.study.waits
    again = search.study.ask()
    assert again is not None
    assert again.candidate == waiting[1]


def test_a_budget_of_candidates_counts_those_who_wait_and_calls_them(start: Callable[..., Search]) -> None:
    search = start(seconds=None, candidates=7)
    first, second = search.new_network(), search.new_network()
    search.postpone(*first, 8.0)
    search.postpone(*second, 5.5)
    assert search.ask() == first
    assert search.ask() == second
    assert search.conductor.next() is None, "seven are decided or in hand"
    for number, candidate in (first, second):
        search.conductor.tell(number, search.outcome(candidate, 0.9, 0.2))
    assert search.conductor.finished


def test_both_visits_of_a_candidate_are_in_its_outcome(start: Callable[..., Search], outcome: Outcomes) -> None:
    search = start()
    number, candidate = search.new_network()
    search.postpone(number, candidate, 20.0)
    assert search.ask() == (number, candidate)
    again = StageRun("probe", "none", "key", cached=True, started_at=9.0, seconds=0.0)
    trained = StageRun("technique", "recovery", "other", cached=False, started_at=9.0, seconds=30.0)
    measured = outcome(candidate, 0.9, 0.2)
    search.conductor.tell(number, Measured(measured.measurement, measured.artifact_key, stages=(again, trained)))
    (told,) = [row for row in search.told if row[0] == number]
    assert told[2].stages == (PROBED, trained)
