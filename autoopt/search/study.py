"""The memory of a search: an Optuna study in which every trial is a candidate and ends in an outcome.

The study's storage is the only truth. A trial is

* COMPLETE: the candidate was measured; its values are (score, latency in ms);
* PRUNED with a violated constraint: eliminated, or failed by its own fault, so that the sampler learns to avoid its like
  (TPE does not see FAIL: of 156 candidates 56 were doomed, against 8 of 111 when told this way);
* FAIL: nothing was learnt: interrupted, its candidate waits again;
* RUNNING: somebody works at it; after a crash nobody does, and `CandidateStudy.reconcile` lets it wait again.

One process asks and tells. Others may read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from random import Random

import optuna
from optuna.storages import BaseStorage

from autoopt.errors import FailureKind, JobError
from autoopt.records import Candidate, Failed, Outcome
from autoopt.search.advisor import Advisor
from autoopt.search.census import Census, census_of
from autoopt.search.moves import started
from autoopt.search.storage import DIRECTIONS, NAME
from autoopt.search.telling import Asked, Decided, Proposal
from autoopt.search.trials import Held, Trials
from autoopt.space import Space, draw, every

__all__ = ["MAX_ATTEMPTS", "MAX_DEATHS", "Asked", "CandidateStudy", "Decided", "Proposal"]

MAX_ATTEMPTS = 3
"""A candidate that was interrupted this often is given up: it may be what takes the node down."""
MAX_DEATHS = 12
"""The same where it was the search that died. Somebody let it go on each time, and it dies for many reasons (a kill, a power cut)
that are no candidate's; several are in flight each time, the reference at every early one."""
_DRAWS = 3
"""Who draws what is known three times will do so again: of 335 draws that TPE had repeated, 15 more were new until the eighth."""
_DRAWN_AGAIN = 200


class CandidateStudy:
    """Ask for candidates, tell outcomes."""

    def __init__(
        self, storage: BaseStorage, space: Space, *, name: str = NAME, sampler: str = "tpe", seed: int = 0
    ) -> None:
        """Open the study of that name in the storage, or make it.

        Raises:
            JobError: it is a search of another space.
            UserError: there is no such sampler.
            StudyError: the storage cannot be used.
        """
        # A trial a line on stderr is not what the user asked for.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        self._study = optuna.create_study(storage=storage, study_name=name, directions=DIRECTIONS, load_if_exists=True)
        self._check_space()
        self._trials = Trials(storage, self._study._study_id, space)  # noqa: SLF001 (Optuna's own way)
        # Another seed each time it is opened: the same one would repeat the draws of the last time.
        self._advisor = Advisor(space, sampler, seed + len(self._trials))
        self._random = Random(f"{seed}/{len(self._trials)}")  # noqa: S311 (draws candidates, keeps no secrets)
        for decided in self._trials.decided:
            self._advisor.learn(decided.candidate, decided.outcome)

    def ask(
        self,
        proposals: Iterable[Proposal] = (),
        *,
        sample: bool = True,
        worth: Callable[[Candidate], bool] = lambda _: True,
    ) -> Asked | None:
        """The next candidate that was not handed out before.

        What waits comes first (interrupted candidates, `enqueue`), then the first new one of ``proposals``, then the
        sampler's (unless ``sample`` is False), drawn again where it is not ``worth`` it. None when every candidate of the space
        has been handed out.
        """
        waiting = self._ask_waiting()
        if waiting:
            return waiting
        fresh = next((each for each in proposals if each.candidate.id not in self._trials.seen), None)
        if fresh is None and sample:
            fresh = self._drawn(worth)
        return None if fresh is None else self._hand_out(self._trials.add(fresh.candidate, fresh.why, waits=False))

    def enqueue(self, proposals: Iterable[Proposal]) -> int:
        """Let candidates wait, in this order; those that are known are left out. Returns how many are new."""
        count = 0
        for proposal in proposals:
            if proposal.candidate.id not in self._trials.seen:
                self._trials.add(proposal.candidate, proposal.why, waits=True)
                count += 1
        return count

    def tell(self, number: int, outcome: Outcome) -> None:
        """How the candidate of that number ended. Telling an ended one again changes nothing.

        An interrupted candidate waits again, up to `MAX_ATTEMPTS` times in all.
        """
        held = self._trials.live(number)
        if held is None:
            return
        if isinstance(outcome, Failed) and outcome.kind.transient and held.attempt < MAX_ATTEMPTS:
            self._try_again(held, attempt=held.attempt + 1)
            return
        self._end(held, outcome)

    def record(self, proposal: Proposal, outcome: Outcome) -> None:
        """How a candidate ended that nobody had to work at. Not for a known one."""
        self._trials.add_decided(proposal.candidate, proposal.why, outcome)
        self._advisor.learn(proposal.candidate, outcome)

    def release(self, number: int) -> None:
        """Give a candidate back that was not worked at to its end by no fault of its own: it waits again."""
        held = self._trials.live(number)
        if held is not None:
            self._try_again(held)

    def note_postponed(self, number: int, *, postponed: bool) -> None:
        """Whether nobody works at the candidate although it has not ended: a crash meanwhile is not its doing."""
        held = self._trials.live(number)
        if held is not None:
            self._trials.note_postponed(held, postponed=postponed)

    def reconcile(self) -> int:
        """After a crash: let what was RUNNING wait again. Returns how many candidates.

        Safe to be killed and repeated at any point: a candidate is enqueued before its stale trial is closed, and not if
        it waits already.
        """
        count = 0
        for held in list(self._trials.running.values()):
            deaths = held.deaths + (not held.postponed)
            if held.asked is not None and deaths >= MAX_DEATHS:
                message = f"the search died {deaths} times while it worked at this candidate"
                self._end(held, Failed("", FailureKind.INTERRUPTED, message))
                continue
            count += held.asked is not None
            self._try_again(held, deaths=deaths)
        return count

    def seen(self) -> frozenset[str]:
        """The identifiers of all candidates that wait, run or have ended."""
        return frozenset(self._trials.seen)

    def outcomes(self) -> tuple[Decided, ...]:
        """All candidates that have ended, in the order in which they were handed out."""
        return self._trials.decided

    def running(self) -> tuple[Asked, ...]:
        """The candidates that somebody works at."""
        return tuple(held.asked for held in self._trials.running.values() if held.asked is not None)

    @property
    def waits(self) -> bool:
        """Whether a candidate waits to be asked for."""
        return bool(self._trials.waiting)

    def census(self) -> Census:
        """Counts of outcomes by cause."""
        return census_of(
            [decided.outcome for decided in self.outcomes()],
            running=len(self.running()),
            waiting=sum(held.asked is not None for held in self._trials.waiting.values()),
            retried=self._trials.retried,
        )

    def _ask_waiting(self) -> Asked | None:
        while self._trials.waiting:
            held = next(iter(self._trials.waiting.values()))
            if held.asked is None:
                self._trials.fail(held)  # its process died before it said which candidate it is: nobody has heard of it
                continue
            self._trials.begin(held)
            return self._hand_out(held)
        return None

    def _hand_out(self, held: Held) -> Asked:
        assert held.asked is not None, "only candidates are handed out"
        self._advisor.begin(held.number, held.asked.candidate)
        return held.asked

    def _drawn(self, worth: Callable[[Candidate], bool]) -> Proposal | None:
        seen = self._trials.seen
        for _ in range(_DRAWS):
            candidate = self._advisor.draw()
            if candidate.id not in seen and worth(candidate):
                return Proposal(candidate, "sampler")
        fresh = self._untried(worth)
        return None if fresh is None else Proposal(fresh, "the sampler repeats itself: drawn evenly")

    def _untried(self, worth: Callable[[Candidate], bool]) -> Candidate | None:
        seen = self._trials.seen
        drawn = [started(self.space, draw(self.space, self._random)) for _ in range(_DRAWN_AGAIN)]
        best = next((c for c in drawn if c.id not in seen and worth(c)), None)
        # At the end of a space, what is hardly worth it has its turn as well.
        return best or next((c for c in itertools.chain(drawn, every(self.space)) if c.id not in seen), None)

    def _try_again(self, held: Held, *, attempt: int | None = None, deaths: int | None = None) -> None:
        """Enqueue first, close second: a crash in between doubles nothing, since the next `reconcile` sees that it waits."""
        if held.asked is not None:
            candidate = held.asked.candidate
            waiting = {each.asked.candidate.id for each in self._trials.waiting.values() if each.asked is not None}
            if candidate.id not in waiting:
                counts = {"attempt": attempt or held.attempt, "deaths": held.deaths if deaths is None else deaths}
                self._trials.add(candidate, held.asked.why, **counts, waits=True)
        self._trials.fail(held)
        self._advisor.end(held.number)

    def _end(self, held: Held, outcome: Outcome) -> None:
        self._trials.end(held, outcome)
        self._advisor.end(held.number)
        if held.asked is not None:
            self._advisor.learn(held.asked.candidate, outcome)

    def _check_space(self) -> None:
        known = self._study.user_attrs.get("space")
        if known is None:
            self._study.set_user_attr("space", self.space.fingerprint)
        elif known != self.space.fingerprint:
            message = (
                f"This search was begun on another space ({known}, now {self.space.fingerprint}): the file, the engines "
                "installed or the cores have changed. Start a new job; the store still has what was computed."
            )
            raise JobError(message)
