"""The training desk, with a judge and a clock in the test's hands."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from autoopt.records import Candidate, Deployment, Eliminated, Step
from autoopt.search.desk import (
    BOLD,
    EXPLORED,
    HOLD_S,
    IDLE_S,
    LEASE_S,
    PATIENCE,
    QUEUE_A_TRAINER,
    WAITING_S,
    Outlook,
    Seats,
    TrainingDesk,
)
from autoopt.search.elimination import Judgement
from autoopt.workers.entry import Standing


@dataclass
class HandClock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class HandJudge:
    promises: dict[str, float] = field(default_factory=dict)
    doomed: set[str] = field(default_factory=set)
    seconds_left: list[float | None] = field(default_factory=list)
    beside_s: float = 0.0
    networks: int = 0

    def judge(self, standing: Standing, seconds_left: float | None, beside_s: float) -> Judgement:
        self.seconds_left.append(seconds_left)
        self.beside_s = beside_s
        name = standing.candidate.id
        if name in self.doomed:
            return Judgement(Eliminated("latency", "too slow"))
        return Judgement(None, self.promises.get(name, 0.0))


def standing(depth: float) -> Standing:
    candidate = Candidate((Step("student", {"depth": depth}),), Deployment("onnxruntime"))
    return Standing(candidate, speedup=2.0, speedup_high=2.1, epochs=0.0, next_epochs=1.0)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def desk_with(judge: HandJudge, clock: HandClock, trainers: int = 1, deadline: float | None = None) -> TrainingDesk:
    desk = TrainingDesk(trainers, deadline, clock)
    desk.learn(judge)  # type: ignore[arg-type]  # a judge by its method
    return desk


def test_a_free_trainer_goes_to_the_candidate_that_promises_most(clock: HandClock) -> None:
    low, high, busy = standing(0.1), standing(0.2), standing(0.3)
    desk = desk_with(HandJudge({low.candidate.id: 1.0, high.candidate.id: 2.0}), clock)
    assert desk.ask(busy).go
    assert not desk.ask(low).go
    assert not desk.ask(high).go
    desk.leave(busy.candidate.id)
    assert not desk.ask(low).go, "somebody who promises more waits"
    assert desk.ask(high).go


def test_who_waits_is_judged_again_when_the_front_has_changed(clock: HandClock) -> None:
    judge = HandJudge()
    desk = desk_with(judge, clock)
    busy, waiting = standing(0.1), standing(0.2)
    assert desk.ask(busy).go
    assert not desk.ask(waiting).go
    judge.doomed.add(waiting.candidate.id)
    answer = desk.ask(waiting)
    assert answer.eliminated is not None
    assert answer.eliminated.reason == "too slow"


def test_the_right_to_train_of_a_silent_process_lapses(clock: HandClock) -> None:
    desk = desk_with(HandJudge(), clock)
    dead, waiting = standing(0.1), standing(0.2)
    assert desk.ask(dead).go
    clock.now += LEASE_S - 1
    assert not desk.ask(waiting).go
    clock.now += 2
    assert desk.ask(waiting).go


def test_a_heartbeat_keeps_the_right_to_train(clock: HandClock) -> None:
    desk = desk_with(HandJudge(), clock)
    alive, waiting = standing(0.1), standing(0.2)
    assert desk.ask(alive).go
    for _ in range(5):
        clock.now += LEASE_S - 1
        assert not desk.heartbeat(alive.candidate.id)
    assert not desk.ask(waiting).go


def test_a_candidate_that_stopped_asking_no_longer_blocks_the_others(clock: HandClock) -> None:
    gone, here, busy = standing(0.1), standing(0.2), standing(0.3)
    desk = desk_with(HandJudge({gone.candidate.id: 9.0}), clock)
    assert desk.ask(busy).go
    assert not desk.ask(gone).go
    desk.leave(busy.candidate.id)
    clock.now += WAITING_S + 1
    assert desk.ask(here).go


def test_everybody_stops_at_the_deadline_or_when_told(clock: HandClock) -> None:
    judge = HandJudge()
    desk = desk_with(judge, clock, deadline=clock.now + 60)
    assert not desk.heartbeat("anybody")
    desk.ask(standing(0.1))
    assert judge.seconds_left == [60]
    clock.now += 60
    assert desk.heartbeat("anybody")
    told = desk_with(judge, clock)
    told.stop()
    assert told.heartbeat("anybody")


def test_two_trainers_serve_two(clock: HandClock) -> None:
    desk = desk_with(HandJudge(), clock, trainers=2)
    assert desk.ask(standing(0.1)).go
    assert desk.ask(standing(0.2)).go
    assert not desk.ask(standing(0.3)).go


def test_where_nobody_builds_or_measures_the_lanes_cores_train_as_well(clock: HandClock) -> None:
    desk = TrainingDesk(1, clock.now + 300.0, clock, spare=1)
    desk.learn(HandJudge())  # type: ignore[arg-type] # judges by hand
    first, second, third = (replace(standing(depth), seconds_per_epoch=50.0) for depth in (0.1, 0.2, 0.3))
    desk.expect(Outlook(idle=True))
    assert desk.ask(first).go
    assert not desk.ask(second).go, "it may only be between two stages of somebody"
    clock.now += IDLE_S
    desk.expect(Outlook(idle=False))
    desk.expect(Outlook(idle=True))
    assert not desk.ask(second).go, "somebody has worked since"
    clock.now += IDLE_S
    desk.expect(Outlook(idle=True))
    assert desk.seats().busy_s == 0
    assert desk.ask(second).go
    assert desk.seats().beyond == 1
    assert not desk.settled(), "who builds would get nothing"
    assert not desk.ask(third).go
    desk.expect(Outlook(idle=False))
    assert desk.heartbeat(second.candidate.id) is False, "who has begun goes on"
    desk.leave(first.candidate.id)
    assert not desk.ask(third).go, "one trains"


def test_lent_cores_are_for_what_has_time_enough_to_share_one(clock: HandClock) -> None:
    desk = TrainingDesk(1, clock.now + 100.0, clock, spare=1)
    desk.learn(HandJudge())  # type: ignore[arg-type] # judges by hand
    first, second = (replace(standing(depth), seconds_per_epoch=50.0) for depth in (0.1, 0.2))
    desk.expect(Outlook(idle=True))
    assert desk.ask(first).go
    clock.now += IDLE_S
    assert not desk.ask(second).go


def test_who_could_only_come_too_late_is_told_so_and_waits_no_longer(clock: HandClock) -> None:
    running, first, last = (replace(standing(depth), seconds_per_epoch=40.0) for depth in (0.1, 0.2, 0.3))
    promises = {first.candidate.id: 2.0, last.candidate.id: 1.0}
    desk = desk_with(HandJudge(promises), clock, deadline=clock.now + 110)
    assert desk.ask(running).go
    assert desk.seats().busy_s == 40
    assert desk.ask(first).eliminated is None, "40 s of the running one and 40 s of its own fit"
    assert desk.ask(last).eliminated is None, "the one ahead may fall"
    late = desk.ask(replace(last, seconds_per_epoch=80.0)).eliminated
    assert late is not None
    assert late.rung == "budget"
    assert "those that promised more came first" in late.reason


def test_who_has_not_trained_yet_is_expected_to_take_as_long_as_the_others(clock: HandClock) -> None:
    known = replace(standing(0.1), seconds_per_epoch=90.0)
    desk = desk_with(HandJudge(), clock, deadline=clock.now + 120)
    assert desk.ask(known).go
    desk.done(known)
    clock.now += 10
    assert desk.ask(standing(0.2)).eliminated is not None


def test_rungs_are_expected_to_take_what_the_last_ones_took_beyond_training(clock: HandClock) -> None:
    known, other = replace(standing(0.1), seconds_per_epoch=40.0), replace(standing(0.2), seconds_per_epoch=40.0)
    desk = desk_with(HandJudge(), clock, deadline=clock.now + 150)
    assert desk.ask(known).go
    clock.now += 70
    desk.done(replace(known, epochs=1.0, next_epochs=0.0))
    late = desk.ask(other).eliminated
    assert late is not None, "80 s are left: 40 s of training, 30 s beside it, and the reserve"


def test_a_faster_network_is_expected_to_train_faster(clock: HandClock) -> None:
    known = replace(standing(0.1), seconds_per_epoch=90.0)
    fast = replace(standing(0.2), speedup=8.0)
    desk = desk_with(HandJudge(), clock, deadline=clock.now + 150)
    assert desk.ask(known).go
    desk.done(known)
    assert desk.ask(standing(0.3)).eliminated is None
    assert desk._needed_s(replace(fast, seconds_per_epoch=desk._expected_pace(fast))) == pytest.approx(22.5)


def test_who_was_trained_before_needs_no_trainer(clock: HandClock) -> None:
    desk = desk_with(HandJudge(), clock, deadline=clock.now + 20)
    assert desk.ask(standing(0.1)).go
    assert desk.ask(replace(standing(0.2), cached=True, seconds_per_epoch=90.0)).go
    assert not desk.ask(standing(0.3)).go


def test_a_long_training_waits_for_a_network_that_comes_back_soon_and_promises_more(clock: HandClock) -> None:
    good, other, short = (replace(standing(depth), seconds_per_epoch=100.0) for depth in (0.1, 0.2, 0.3))
    short = replace(short, next_epochs=0.1)
    promises = {good.candidate.id: 3.0, other.candidate.id: 2.0, short.candidate.id: 1.0}
    desk = desk_with(HandJudge(promises), clock)
    assert desk.ask(good).go
    desk.done(replace(good, score=0.9, epochs=1.0, next_epochs=0.0))
    assert not desk.ask(other).go, "the one that was trained is being measured, and will be promoted"
    clock.now += WAITING_S + 1
    assert desk.ask(short).go
    desk.leave(short.candidate.id)
    assert desk.ask(good).go, "it is back"
    desk.leave(good.candidate.id)
    assert desk.ask(other).go


def test_nobody_waits_longer_than_promotion_takes(clock: HandClock) -> None:
    good, other = (replace(standing(depth), seconds_per_epoch=100.0) for depth in (0.1, 0.2))
    desk = desk_with(HandJudge({good.candidate.id: 3.0, other.candidate.id: 2.0}), clock)
    assert desk.ask(good).go
    desk.done(replace(good, score=0.9, epochs=1.0, next_epochs=0.0))
    clock.now += HOLD_S + 1
    assert desk.ask(other).go


def test_nobody_waits_for_a_network_that_was_only_served_otherwise(clock: HandClock) -> None:
    served, other = replace(standing(0.1), cached=True), replace(standing(0.2), seconds_per_epoch=100.0)
    desk = desk_with(HandJudge({served.candidate.id: 3.0, other.candidate.id: 2.0}), clock)
    assert desk.ask(served).go
    desk.done(replace(served, score=0.9, epochs=1.0, next_epochs=0.0))
    assert desk.ask(other).go


def test_the_queue_is_short_and_who_promises_least_is_postponed_with_the_pace_expected_of_it(clock: HandClock) -> None:
    busy, *others = (replace(standing(n / 10), seconds_per_epoch=40.0) for n in range(1, 3 + QUEUE_A_TRAINER))
    least, *better = others
    promises = {each.candidate.id: float(place) for place, each in enumerate(others)}
    desk = desk_with(HandJudge(promises), clock)
    assert desk.ask(busy).go
    desk.done(busy)
    assert desk.ask(busy).go
    assert desk.ask(replace(least, seconds_per_epoch=None)).postponed is None, "there is room for it"
    assert not any(desk.ask(each).postponed for each in better)
    postponed = desk.ask(replace(least, seconds_per_epoch=None)).postponed
    assert postponed is not None
    assert postponed.seconds_per_epoch == 40.0
    assert desk.seats().taken == {each.candidate.id for each in (busy, *better)}


def test_nobody_takes_the_place_of_one_that_was_postponed_and_promises_more(clock: HandClock) -> None:
    desk = desk_with(HandJudge({standing(each).candidate.id: each for each in (0.5, 0.7, 0.8, 0.9)}), clock)
    assert desk.ask(standing(0.5)).go
    desk.expect(Outlook(standing(0.8)))
    assert desk.ask(standing(0.7)).postponed is not None
    assert desk.ask(standing(0.9)).postponed is None, "it promises more than who will be called"
    desk.leave(standing(0.9).candidate.id)
    assert desk.ask(standing(0.8)).postponed is None, "it has been called"
    assert desk.ask(standing(0.7)).postponed is not None, "it is behind who waits here"
    desk.leave(standing(0.8).candidate.id)
    desk.expect(Outlook())
    assert desk.ask(standing(0.7)).postponed is None


def test_the_desk_tells_who_has_come_out_of_training(clock: HandClock) -> None:
    desk = desk_with(HandJudge(), clock)
    assert desk.ask(standing(0.1)).go
    out = replace(standing(0.1), score=0.9, epochs=1.0, next_epochs=0.0)
    desk.done(out)
    desk.done(replace(standing(0.2), score=0.8, epochs=1.0))
    assert desk.seats().trained == (out,), "the other's training was in the store"


def test_whoever_is_next_is_never_postponed(clock: HandClock) -> None:
    desk = desk_with(HandJudge(), clock)
    assert desk.ask(standing(0.1)).go
    for place in range(2, 2 + QUEUE_A_TRAINER):
        assert desk.ask(standing(place / 10)).postponed is None
    assert desk.ask(standing(0.9)).postponed is not None, "of equals the last"
    desk.leave(standing(0.1).candidate.id)
    assert desk.ask(standing(0.2)).go


def bet(clock: HandClock, left_s: float = 100.0) -> tuple[TrainingDesk, HandJudge, Standing]:
    """A desk, and a training that takes more of the time left than one network should."""
    judge = HandJudge()
    long = replace(standing(0.1), seconds_per_epoch=2 * BOLD * left_s)
    judge.promises[long.candidate.id] = 5.0
    return desk_with(judge, clock, deadline=clock() + left_s), judge, long


def test_a_bet_on_one_network_waits_for_others_that_are_on_their_way(clock: HandClock) -> None:
    desk, _, long = bet(clock)
    desk.expect(Outlook(coming=1))
    assert not desk.ask(long).go
    short = replace(standing(0.2), seconds_per_epoch=1.0)
    assert desk.ask(short).go, "it promises less, and nothing is known of it"
    desk.leave(short.candidate.id)
    assert not desk.ask(long).go
    desk.expect(Outlook(coming=0))
    assert desk.ask(long).go, "nobody else comes"


def test_a_bet_waits_no_longer_than_a_share_of_what_it_takes(clock: HandClock) -> None:
    desk, _, long = bet(clock)
    desk.expect(Outlook(coming=1))
    assert not desk.ask(long).go
    for _ in range(4):
        clock.now += PATIENCE * 2 * BOLD * 100.0 / 4
        last = desk.ask(long).go
    assert last


def test_once_enough_networks_have_trained_nobody_waits(clock: HandClock) -> None:
    desk, judge, long = bet(clock)
    desk.expect(Outlook(coming=1))
    judge.networks = EXPLORED - 1
    assert not desk.ask(long).go
    judge.networks = EXPLORED
    assert desk.ask(long).go


def test_builders_are_spared_once_networks_have_trained_or_half_of_the_time_is_over(clock: HandClock) -> None:
    judge = HandJudge()
    desk = desk_with(judge, clock, deadline=clock() + 100.0)
    assert not desk.settled()
    desk.begin()
    clock.now += 49.0
    assert not desk.settled()
    judge.networks = EXPLORED
    assert desk.settled()
    judge.networks = 0
    clock.now += 1.0
    assert desk.settled()
    assert not desk_with(HandJudge(), clock).settled(), "where time is no limit, only networks count"


def test_the_desk_tells_what_candidates_wait_for_until_they_fall_silent_or_leave(clock: HandClock) -> None:
    desk = TrainingDesk(1, clock=clock)
    desk.heartbeat("a", "build openvino int8")
    desk.heartbeat("b", "build openvino int8")
    desk.heartbeat("c", "measure openvino int8, 1 thread")
    assert desk.seats().doing == ("build openvino int8", "measure openvino int8, 1 thread")
    assert desk.seats() == Seats(), "nothing is decided by it"
    desk.leave("c")
    clock.now += 4.0
    desk.heartbeat("b", "export onnx")
    clock.now += 4.0
    assert desk.seats().doing == ("export onnx",)


def test_who_is_next_is_rung_for_when_a_trainer_falls_free(clock: HandClock) -> None:
    low, high, busy = standing(0.1), standing(0.2), standing(0.3)
    desk = desk_with(HandJudge({low.candidate.id: 1.0, high.candidate.id: 2.0}), clock, trainers=2)
    rung: list[str] = []
    assert desk.ask(busy).go
    assert desk.ask(standing(0.4)).go
    assert not desk.ask(low, lambda: rung.append("low")).go
    assert not desk.ask(high, lambda: rung.append("high")).go
    assert rung == []
    desk.done(busy)
    assert rung == ["high"], "one trainer is free: the other one would only come to hear that it is not its turn"


def test_a_candidate_between_two_rungs_lets_a_better_one_know(clock: HandClock) -> None:
    better, busy = standing(0.1), standing(0.2)
    desk = desk_with(HandJudge({better.candidate.id: 1.0}), clock)
    rung: list[str] = []
    assert desk.ask(busy).go
    assert not desk.ask(better, lambda: rung.append("better")).go
    assert not desk.ask(busy, lambda: rung.append("busy")).go, "its rung is done, and another one promises more"
    assert rung == ["better"]
    assert desk.ask(better).go


def test_all_who_wait_hear_that_the_job_stops(clock: HandClock) -> None:
    desk = desk_with(HandJudge(), clock)
    rung: list[float] = []
    assert desk.ask(standing(0.1)).go
    for depth in (0.2, 0.3):
        desk.employ(1, 0)
        desk.ask(standing(depth), lambda depth=depth: rung.append(depth))  # type: ignore[misc]
    desk.stop()
    assert 0.2 in rung
