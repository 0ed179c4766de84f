"""The training desk: who may train next, who is eliminated, and when everybody must stop.

Candidates wait in threads of the job's process, which all ask here, one at a time. Training is the dear part of a
search, so a free trainer goes to the candidate that promises most *now* by second of training, and everyone who waits is
judged again by the front as it stands. A right to train is a lease that lapses when its holder falls silent: who hangs blocks nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import wraps
from statistics import median
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar

from autoopt.records import Eliminated, digest
from autoopt.search.elimination import RESERVE_S, Judge, Judgement
from autoopt.workers.entry import Standing

HOLD_S = 10.0
"""A network that has just trained is promoted at once, if it deserves it; its coordinator is here again after a few seconds."""
LEASE_S = 20.0
WAITING_S = 5.0
MARGIN = 1.15
"""A training cut off by the end is lost: what it is expected to take may be exceeded by so much."""
QUEUE_A_TRAINER = 1
"""So many wait here for each trainer, so that none stands idle; everybody else is postponed, and others are probed."""
BOLD, EXPLORED = 0.2, 3
"""A training that takes this share of the time left or more is a bet on one network: not before so many have trained, as long as
others are on their way. After Hyperband's rule that a long run is earned against others (Li et al., JMLR 2018)."""
IDLE_S = 3.0
"""Where nobody builds or measures for so long, the lane's cores train as well, as a rule because all networks of the space are known.
Between two stages of a candidate it is less."""
PATIENCE = 0.25
"""It waits for them no longer than this share of what it takes itself: by so much the wait can harm."""


Network: TypeAlias = tuple[tuple[str, str], ...]
Ring: TypeAlias = Callable[[], None]
"""Wakes a candidate that waits: it may be its turn."""
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Answer:
    """What the desk says: go on, wait and ask again, or the candidate ends here."""

    go: bool
    eliminated: Eliminated | None = None
    stop: bool = False
    """The job ends: neither."""
    postponed: Standing | None = None
    """Others train first, and waiting takes a place: end here and come again. With the pace that is expected of it."""


@dataclass(frozen=True)
class Seats:
    """What the desk tells those who send candidates to it."""

    taken: frozenset[str] = frozenset()
    """Identifiers of the candidates that train or wait to."""
    busy_s: float = 0.0
    """Seconds until a trainer is free."""
    trained: tuple[Standing, ...] = ()
    """Networks as they came out of their training, each where it was last trained."""
    beyond: int = 0
    """So many train on cores that are lent."""
    doing: tuple[str, ...] = field(default=(), compare=False)
    """The stages that candidates wait for, by name; nothing is decided by them."""


@dataclass(frozen=True)
class Outlook:
    """What those who send candidates tell the desk."""

    best: Standing | None = None
    """Who promises most of those that were postponed: nobody that promises less takes the place that it will be called to."""
    coming: int = 0
    """So many networks are on their way that have not trained yet."""
    idle: bool = False
    """Whether everybody who has a process trains or waits to."""


@dataclass
class _Waiting:
    promise: float
    asked_at: float
    needed_s: float
    """For the next rung."""
    since: float
    """When it came."""
    bold: bool = False
    """Whether its training is a bet that it is too early for."""
    ring: Ring = lambda: None


@dataclass
class _Lease:
    began: float
    heard_at: float
    until: float
    """When its rung should be done."""
    epochs: float
    """Of its rung."""


@dataclass
class _Hold:
    """A network that will probably be promoted, and what for."""

    promise: float
    until: float


def _one_at_a_time(method: Callable[Concatenate[TrainingDesk, P], R]) -> Callable[Concatenate[TrainingDesk, P], R]:
    """A method that the desk's threads call one after the other."""

    @wraps(method)
    def alone(desk: TrainingDesk, /, *arguments: P.args, **named: P.kwargs) -> R:
        with desk.lock:
            return method(desk, *arguments, **named)

    return alone


class TrainingDesk:
    """Thread-safe."""

    def __init__(
        self, trainers: int, deadline: float | None = None, clock: Callable[[], float] = time.time, *, spare: int = 0
    ) -> None:
        """Nobody is there yet.

        Args:
            trainers: how many train at a time.
            deadline: seconds since the epoch; None where time is no limit.
            clock: tells those.
            spare: how many more may begin to train where nobody builds or measures.
        """
        self.lock = threading.RLock()
        self._judge: Judge | None = None
        self._trainers = trainers
        self._spare = spare
        self._idle_since: float | None = None
        self._deadline = deadline
        self._clock = clock
        self._leases: dict[str, _Lease] = {}
        self._work: list[float] = []
        """Seconds per epoch times speed-up, of each network that has trained: about the same for all."""
        self._beside_s: list[float] = []
        """What rungs took beyond training: start, teacher's outputs, validation."""
        self._waiting: dict[str, _Waiting] = {}
        self._holds: dict[Network, _Hold] = {}
        self._trained: dict[Network, Standing] = {}
        self._doing: dict[str, tuple[str, float]] = {}
        """What a candidate waits for, and when it said so."""
        self._outlook = Outlook()
        self._begun_at: float | None = None
        self._stopping = False
        self._begun = threading.Event()

    @_one_at_a_time
    def employ(self, trainers: int, spare: int) -> None:
        """So many train at a time from now on: nodes and other jobs have come or gone."""
        self._trainers, self._spare = trainers, spare
        self._call_next()

    @_one_at_a_time
    def begin(self) -> None:
        """The reference has been measured, which every measurement is paired with."""
        self._begun_at = self._clock()
        self._begun.set()

    def wait_for_beginning(self, timeout_s: float) -> bool:
        """Whether candidates may begin; waits until they may, or for so long."""
        return self._begun.wait(timeout_s)

    @_one_at_a_time
    def trains(self) -> bool:
        """Whether a candidate trains."""
        return bool(self._leases)

    @_one_at_a_time
    def settled(self) -> bool:
        """Whether builders can be spared for what is needed at the end: some networks have trained, or half of the time is over.

        Not while there is training on the cores that they have otherwise.
        """
        if self._beyond:
            return False
        if self._explored >= EXPLORED:
            return True
        if self._deadline is None or self._begun_at is None:
            return False
        return self._clock() >= (self._begun_at + self._deadline) / 2

    @_one_at_a_time
    def seats(self) -> Seats:
        """Who is here, until when the trainers are busy, and what everybody does."""
        now = self._clock()
        taken = frozenset({*self._leases, *self._waiting})
        doing = dict.fromkeys(name for name, said_at in self._doing.values() if now - said_at < WAITING_S)
        return Seats(taken, self._busy_s(now), tuple(self._trained.values()), self._beyond, tuple(doing))

    @_one_at_a_time
    def compares(self) -> bool:
        """Whether the front holds more than the reference: else it beats nobody."""
        return self._judge is not None and self._judge.compares

    @_one_at_a_time
    def learn(self, judge: Judge) -> None:
        """Judge by this from now on: the front has changed."""
        self._judge = judge

    @_one_at_a_time
    def expect(self, outlook: Outlook) -> None:
        """Who else is to come."""
        self._outlook = outlook
        self._idle_since = (self._idle_since or self._clock()) if outlook.idle else None

    @_one_at_a_time
    def stop(self) -> None:
        """Tell every candidate to stop when it next asks."""
        self._stopping = True
        for waiting in self._waiting.values():
            waiting.ring()

    @_one_at_a_time
    def stopping(self) -> bool:
        """Whether candidates must stop: told to, or the time is over."""
        return self._stopping or (self._deadline is not None and self._clock() >= self._deadline)

    @_one_at_a_time
    def ask(self, standing: Standing, ring: Ring = lambda: None) -> Answer:
        """May this candidate train its next rung? A lease that it held for the last rung is given back.

        ``ring``: called when it may be its turn, where it has to wait. It asks again now and then all the same.
        """
        gives_back = standing.candidate.id in self._leases
        answer = self._answer(standing, ring)
        if gives_back:
            self._call_next()
        return answer

    def _answer(self, standing: Standing, ring: Ring) -> Answer:
        if self.stopping():
            return Answer(go=False, stop=True)
        name, now = standing.candidate.id, self._clock()
        self._doing.pop(name, None)
        self._note(standing, now)
        standing = replace(standing, seconds_per_epoch=standing.seconds_per_epoch or self._expected_pace(standing))
        left_s = None if self._deadline is None else self._deadline - now
        # Without a measured reference there is nothing to judge by.
        judgement = self._judge.judge(standing, left_s, self._beside()) if self._judge else Judgement(None)
        if judgement.eliminated is not None:
            self._waiting.pop(name, None)
            return Answer(go=False, eliminated=judgement.eliminated)
        if standing.cached:
            self._waiting.pop(name, None)
            return Answer(go=True)
        return self._queue(standing, judgement.promise, left_s, now, ring)

    def _queue(self, standing: Standing, promise: float, left_s: float | None, now: float, ring: Ring) -> Answer:
        """The candidate is worth training: is it its turn?"""
        name = standing.candidate.id
        self._holds.pop(_network(standing), None)
        self._forget_silent(now)
        needed_s = self._needed_s(standing)
        since = self._waiting[name].since if name in self._waiting else now
        bold = left_s is not None and needed_s > BOLD * left_s and self._explored < EXPLORED
        self._waiting[name] = waiting = _Waiting(promise, now, needed_s, since, bold, ring)
        # Those ahead may fall, so they are not counted; who trains now will not be interrupted.
        late_s = 0.0 if left_s is None else self._busy_s(now) + MARGIN * waiting.needed_s + RESERVE_S - left_s
        if late_s > 0:
            del self._waiting[name]
            reason = f"those that promised more came first: its turn would end {late_s:.0f} s after the search"
            return Answer(go=False, eliminated=Eliminated("budget", reason, standing.speedup, standing.score))
        if self._place(name) >= QUEUE_A_TRAINER * self._trainers or self._better_outside(name, left_s):
            del self._waiting[name]
            return Answer(go=False, postponed=standing)
        if (
            len(self._leases) >= self._places(now, needed_s)
            or self._place(name) > 0
            or self._held(name)
            or self._too_early(name)
        ):
            return Answer(go=False)
        waited = self._waiting.pop(name)
        self._leases[name] = _Lease(now, now, now + waited.needed_s, standing.next_epochs)
        return Answer(go=True)

    @_one_at_a_time
    def done(self, standing: Standing) -> None:
        """The candidate has trained all that it is to train: its lease is given back, and it may be promoted."""
        now = self._clock()
        trained = standing.candidate.id in self._leases
        self._note(standing, now)
        self._waiting.pop(standing.candidate.id, None)
        self._call_next()
        if not trained:
            return  # the store had it: nobody is promoted anew
        self._trained[_network(standing)] = standing
        left_s = None if self._deadline is None else self._deadline - now
        onward = self._judge.judge(standing, left_s, self._beside()) if self._judge else Judgement(None)
        if onward.eliminated is None and onward.promise > 0:
            self._holds[_network(standing)] = _Hold(onward.promise, now + HOLD_S)

    @_one_at_a_time
    def heartbeat(self, name: str, doing: str = "") -> bool:
        """The candidate is alive (a lease that it holds is renewed); returns whether it must stop.

        ``doing``: the name of the stage that it waits for.
        """
        if name in self._leases:
            self._leases[name].heard_at = self._clock()
        if doing:
            self._doing[name] = (doing, self._clock())
        return self.stopping()

    @_one_at_a_time
    def leave(self, name: str) -> None:
        """The candidate has ended."""
        self._leases.pop(name, None)
        self._waiting.pop(name, None)
        self._doing.pop(name, None)
        self._call_next()

    def _call_next(self) -> None:
        """Ring for those whose turn it may be: as many as trainers are free."""
        free = self._places(self._clock()) - len(self._leases)
        for name in self._best_first()[: max(0, free)]:
            self._waiting[name].ring()

    def _note(self, standing: Standing, now: float) -> None:
        """Give back the lease of the last rung, and learn from it how long rungs take."""
        lease, pace = self._leases.pop(standing.candidate.id, None), standing.seconds_per_epoch
        if lease is not None and pace is not None:
            self._work.append(pace * standing.speedup)
            self._beside_s.append(max(0.0, now - lease.began - pace * lease.epochs))

    def _expected_pace(self, standing: Standing) -> float | None:
        """Seconds per epoch of a network that has not trained yet, as the others' were; None where none has."""
        return median(self._work) / standing.speedup if self._work else None

    def _needed_s(self, standing: Standing) -> float:
        """Seconds for the next rung."""
        return (standing.seconds_per_epoch or 0.0) * standing.next_epochs + self._beside()

    def _beside(self) -> float:
        """Seconds that a rung takes beyond its epochs."""
        return median(self._beside_s) if self._beside_s else 0.0

    def _busy_s(self, now: float) -> float:
        """Seconds until a trainer is free."""
        if len(self._leases) < self._places(now):
            return 0.0
        return max(0.0, min(lease.until for lease in self._leases.values()) - now)

    @property
    def _beyond(self) -> int:
        """So many train on cores that are lent."""
        return max(0, len(self._leases) - self._trainers)

    def _places(self, now: float, needed_s: float = 0.0) -> int:
        """How many may train at present, where one more takes so long by itself.

        On lent cores only what has time enough for both to take twice as long: they share one whenever something is measured.
        """
        idle = self._idle_since is not None and now - self._idle_since >= IDLE_S
        longest_s = max([needed_s, *(lease.until - now for lease in self._leases.values())])
        hurries = self._deadline is not None and 2 * longest_s + RESERVE_S > self._deadline - now
        return self._trainers + (self._spare if idle and not hurries else 0)

    def _held(self, name: str) -> bool:
        """Whether the trainer is kept for a network that comes back soon and promises more: not from a short training."""
        mine = self._waiting[name]
        return mine.needed_s > HOLD_S and any(hold.promise > mine.promise for hold in self._holds.values())

    def _better_outside(self, name: str, left_s: float | None) -> bool:
        """Whether one that was postponed, and has not been called yet, promises more."""
        outside = self._outlook.best
        if outside is None or self._judge is None or outside.candidate.id in {*self._waiting, *self._leases}:
            return False
        paced = replace(outside, seconds_per_epoch=outside.seconds_per_epoch or self._expected_pace(outside))
        judgement = self._judge.judge(paced, left_s, self._beside())
        return judgement.eliminated is None and judgement.promise > self._waiting[name].promise

    def _place(self, name: str) -> int:
        """How many of those who wait come before this one: 0 for who is next."""
        return self._best_first().index(name)

    def _best_first(self) -> list[str]:
        return sorted(self._waiting, key=lambda each: (self._waiting[each].bold, -self._waiting[each].promise))

    @property
    def _explored(self) -> int:
        """How many networks have trained, in this run of the job or, as far as they were measured, before."""
        return max(len(self._trained), self._judge.networks if self._judge else 0)

    def _too_early(self, name: str) -> bool:
        """Whether a bet waits for others; the processors are theirs meanwhile."""
        mine = self._waiting[name]
        waited_s = self._clock() - mine.since
        return mine.bold and self._outlook.coming > 0 and waited_s < PATIENCE * mine.needed_s

    def _forget_silent(self, now: float) -> None:
        self._leases = {name: lease for name, lease in self._leases.items() if now - lease.heard_at < LEASE_S}
        self._waiting = {name: entry for name, entry in self._waiting.items() if now - entry.asked_at < WAITING_S}
        self._holds = {network: hold for network, hold in self._holds.items() if now < hold.until}


def _network(standing: Standing) -> Network:
    """Equal for a candidate and the one that it is promoted to."""
    steps = standing.candidate.model
    return tuple((step.technique, digest({k: v for k, v in step.params.items() if k != "epochs"})) for step in steps)
