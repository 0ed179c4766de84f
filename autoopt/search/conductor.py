"""Which candidate next, what was learnt from the last, and when it is over. Knows nothing of Ray.

Everything that is known is in the study: a conductor can be thrown away at any moment and made again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from autoopt.errors import AutooptError, StudyError
from autoopt.records import Candidate, Failed, Outcome, StageRun
from autoopt.search.budget import BudgetClock
from autoopt.search.capacity import Capacity
from autoopt.search.desk import QUEUE_A_TRAINER, Outlook, Seats
from autoopt.search.elimination import Judge, make_judge
from autoopt.search.proposals import View, begun, make_view, new, worth_serving
from autoopt.search.standings import network_id
from autoopt.search.study import Asked, CandidateStudy, Decided
from autoopt.search.waiting import WaitingRoom, merged
from autoopt.workers.entry import Postponed

# What earlier jobs on the store have decided is found there in a second or two.
REPLAYED_AT_ONCE = 3
# New networks that are made and probed at a time (builders have those to serve, too, that have been trained), and how many
# may wait for each trainer: more would hardly be trained before the front has moved.
PROBED_AT_ONCE = 3
POSTPONED_A_TRAINER = 24

# Candidates in flight: at each lane one is timed, some are built, a few need no training; for each that trains others wait at the
# desk, so that no trainer stands idle. More would be proposed by what was known earlier.
IN_FLIGHT_A_LANE, IN_FLIGHT_A_TRAINER = 5, 1 + QUEUE_A_TRAINER
ONE_NODE = Capacity(lanes=1, trainers=1, spare=0)


def in_flight(capacity: Capacity) -> int:
    """How many candidates may be worked at at a time."""
    return IN_FLIGHT_A_LANE * max(1, capacity.lanes) + IN_FLIGHT_A_TRAINER * capacity.trainers + capacity.spare


def at_first(capacity: Capacity) -> int:
    """How many, before anything is known: every trainer could have one, but the first config needs the processors more than many others do."""
    return max(1, capacity.lanes) + capacity.trainers


Row: TypeAlias = tuple[int, Candidate, Outcome]
Listener: TypeAlias = Callable[[Sequence[Row]], None]
"""Hears all outcomes so far, after each."""


class Conductor:
    """Thread-safe: Tune's loop asks and tells, a watcher reviews and stops."""

    def __init__(
        self,
        study: CandidateStudy,
        reference: Candidate,
        clock: BudgetClock,
        listen: Listener,
        capacity: Capacity = ONE_NODE,
        *,
        replays: bool = False,
    ) -> None:
        """Nothing is handed out yet.

        Args:
            study: what is known.
            reference: what everything is compared with.
            clock: of the budget.
            listen: hears all outcomes so far, after each.
            capacity: how much may run at a time.
            replays: what waits in the study was decided by earlier jobs on the same store.
        """
        self._study = study
        self._replays = replays
        self._capacity = capacity
        self._reference = reference
        self._clock = clock
        self._listen = listen
        self._lock = threading.RLock()
        self._stopping = False
        self._exhausted = False
        self._changes = 0
        """How often something has happened that others might be handed out for."""
        self._idle_at: int | None = None
        """After how many changes there was nothing to hand out."""
        self._aborted: Exception | None = None
        self._room = WaitingRoom()
        self._earlier: dict[int, tuple[StageRun, ...]] = {}
        """What a candidate's stages cost before it was postponed."""
        self._desk = Seats()
        self._met: set[str] = set()
        """Who has been at the training desk since it was handed out."""
        self._called: set[str] = set()
        """Who was called out of the waiting room."""
        self._judged: tuple[int, Judge | None] = (-1, None)

    @property
    def finished(self) -> bool:
        """Whether nothing new is handed out any more."""
        return self._stopping or self._exhausted or self._clock.left_s == 0.0

    @property
    def stopping(self) -> bool:
        """Whether what runs must end, too."""
        return self._stopping

    def next(self) -> tuple[int, Candidate] | None:
        """The next candidate; None while the budget's candidates are all in flight, or when the space is used up."""
        with self._lock, self._or_abort():
            if self._changes == self._idle_at:
                return None  # Tune asks many times a second, and thinking takes a core that others need
            decided, running = self._study.outcomes(), self._study.running()
            asked = self._ask(decided, running, self._live(running))
            self._idle_at = self._changes if asked is None else None
            if asked is not None:
                return asked.number, asked.candidate
        return None

    def _ask(self, decided: Sequence[Decided], running: Sequence[Asked], live: Sequence[Candidate]) -> Asked | None:
        if len(live) >= self._most_live(len(decided)):
            return None
        candidates = [asked.candidate for asked in running]
        view = make_view(self._study.space, rows(decided), self._reference, candidates, self._desk.trained)
        if not self._study.waits and self._too_early(view, live):
            return None
        may_begin = self._clock.left(len(decided) + len(running)) != 0
        asked = self._study.ask(begun(view) if view else (), sample=False) if may_begin else None
        asked = asked or self._call(live)
        if asked is None and may_begin:
            room = view is None or self._room_for_new(view, live)
            further = new(view, networks=room) if view else ()
            asked = self._study.ask(further, sample=room, worth=partial(worth_serving, view) if view else _anything)
            self._exhausted = asked is None and not running
        return asked

    def _live(self, running: Sequence[Asked]) -> list[Candidate]:
        """Those that somebody works at; who waits outside costs nothing."""
        return [asked.candidate for asked in running if asked.number not in self._room]

    def employ(self, capacity: Capacity) -> None:
        """So much may run at a time from now on."""
        with self._lock:
            self._changes += capacity != self._capacity
            self._capacity = capacity

    def _most_live(self, decided: int) -> int:
        growing = min(at_first(self._capacity) + decided * max(1, self._capacity.lanes), in_flight(self._capacity))
        return min(growing, REPLAYED_AT_ONCE) if self._replays and self._study.waits else growing

    def _too_early(self, view: View | None, live: Sequence[Candidate]) -> bool:
        """Whether to wait for what is in flight before anything is proposed.

        Before the reference is measured nothing can be judged; and what is proposed next is served where the unchanged
        network runs fastest, so most of its deployments come first. The slow ones at the end are not waited for.
        """
        space = self._study.space
        unchanged = [candidate for candidate in live if not space.network(candidate)]
        return bool(live) and (view is None or len(unchanged) > max(1, len(space.targets) // 2))

    def _seats_taken(self, live: Sequence[Candidate]) -> int:
        """How many train, wait at the desk, or have been called to it."""
        coming = self._called - self._met
        return sum(candidate.id in self._desk.taken or candidate.id in coming for candidate in live)

    def _call(self, live: Sequence[Candidate]) -> Asked | None:
        """Somebody out of the waiting room, where there is a seat at the desk."""
        judge = self.judge() if len(self._room) else None
        seats = (1 + QUEUE_A_TRAINER) * self._capacity.trainers + self._desk.beyond
        if judge is None or self._seats_taken(live) >= seats:
            return None
        asked = self._room.call(judge, self._time_for_training())
        if asked is not None:
            self._study.note_postponed(asked.number, postponed=False)
            self._met.discard(asked.candidate.id)
            self._called.add(asked.candidate.id)
        return asked

    def _time_for_training(self) -> float | None:
        """Seconds, from when a trainer is free; None where time is no limit."""
        left_s = self._clock.left_s
        return None if left_s is None else max(0.0, left_s - self._desk.busy_s)

    def _room_for_new(self, view: View, live: Sequence[Candidate]) -> bool:
        """Whether another network may be begun."""
        on_their_way = [c for c in live if view.trains(c) and c.id not in self._met and c.id not in self._called]
        probed_at_once = PROBED_AT_ONCE + self._capacity.trainers - 1
        return len(on_their_way) < probed_at_once and len(self._room) < POSTPONED_A_TRAINER * self._capacity.trainers

    def tell(self, number: int, outcome: Outcome) -> None:
        """How a candidate ended. One that was stopped together with the job is given back: nobody is to blame."""
        with self._lock, self._or_abort():
            self._changes += 1
            if isinstance(outcome, Failed) and outcome.kind.transient and self.finished:
                self._study.release(number)
                return
            earlier = self._earlier.pop(number, ())
            self._study.tell(number, replace(outcome, stages=merged(earlier, outcome.stages)))
            self._exhausted = self._exhausted or self._clock.left(len(self._study.outcomes())) == 0
        try:
            self._listen(self.outcomes())
        except AutooptError as error:
            # Tune, or the thread that watches it, has no use for it.
            self.abort(error)

    @contextmanager
    def _or_abort(self) -> Iterator[None]:
        """A study that cannot be written ends the search, in words: whoever told or asked has no use for the error."""
        try:
            yield
        except StudyError as error:
            self.abort(error)

    def postpone(self, number: int, postponed: Postponed) -> None:
        """The candidate waits outside until its turn comes."""
        with self._lock, self._or_abort():
            self._changes += 1
            earlier = merged(self._earlier.get(number, ()), postponed.stages)
            self._earlier[number] = earlier
            self._study.note_postponed(number, postponed=True)
            self._called.discard(postponed.standing.candidate.id)
            self._room.enter(Asked(number, postponed.standing.candidate), Postponed(postponed.standing, stages=earlier))

    def review(self, desk: Seats) -> Outlook:
        """Now and then: hear who is at the training desk, and end those who wait in vain. Who else will come to it."""
        with self._lock:
            if replace(desk, busy_s=0.0) != replace(self._desk, busy_s=0.0):
                self._changes += 1
            self._desk = desk
            self._met |= desk.taken
            judge = self.judge() if len(self._room) else None
            ended = self._room.dismiss(judge, self._time_for_training()) if judge else {}
            best = self._room.best(judge, self._time_for_training()) if judge else None
            live = self._live(self._study.running())
            coming = len(self._coming(live))
            idle = bool(live) and all(candidate.id in desk.taken for candidate in live)
        for number, eliminated in ended.items():
            self.tell(number, eliminated)
        return Outlook(best, coming, idle)

    def _coming(self, live: Sequence[Candidate]) -> set[str]:
        """The networks that are being made and probed, none of which has trained."""
        space = self._study.space
        trained = {network_id(space, standing.candidate) for standing in self._desk.trained}
        new = (c for c in live if space.trained_for(c) is not None and c.id not in self._met)
        return {network_id(space, candidate) for candidate in new} - trained

    def close(self) -> None:
        """The search is over: who still waits was not worth the time; where it was stopped, they wait for its going on."""
        with self._lock:
            ended = self._room.close()
        for number, eliminated in ended.items():
            if self._stopping:
                with self._or_abort():
                    self._study.release(number)
            else:
                self.tell(number, eliminated)

    def judge(self) -> Judge | None:
        """The judge of the outcomes so far; None until the reference has been measured."""
        with self._lock:
            decided = self._study.outcomes()
            if self._judged[0] != len(decided):
                self._judged = (len(decided), make_judge(self._study.space, rows(decided), self._reference))
            return self._judged[1]

    def outcomes(self) -> list[Row]:
        """Every candidate that has ended."""
        with self._lock:
            return rows(self._study.outcomes())

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopping = True

    def abort(self, error: Exception) -> None:
        """Stop because the search cannot go on (store or study failed, the reference cannot be measured); `check` raises the first cause."""
        self._aborted = self._aborted or error
        self.stop()

    def check(self) -> None:
        """Nothing, or the error that ended the search."""
        if self._aborted is not None:
            raise self._aborted


def _anything(_: Candidate) -> bool:
    return True


def rows(decided: Sequence[Decided]) -> list[Row]:
    """Number, candidate, outcome."""
    return [(entry.number, entry.candidate, entry.outcome) for entry in decided]
