"""Which candidate next, what was learnt from the last, and when it is over. Knows nothing of Ray.

Everything that is known is in the study: a conductor can be thrown away at any moment and made again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from autoopt.records import Candidate, Failed, Outcome
from autoopt.search.budget import BudgetClock
from autoopt.search.elimination import Judge, make_judge
from autoopt.search.proposals import QUEUE_A_TRAINER, View, make_view, propose
from autoopt.search.study import Asked, CandidateStudy, Decided

# Starting a coordinating process costs seconds of a core, which the first config needs more: begin with few.
AT_FIRST = 2

Row: TypeAlias = tuple[int, Candidate, Outcome]
Listener: TypeAlias = Callable[[Sequence[Row]], None]
"""Hears all outcomes so far, after each."""


class Conductor:
    """Thread-safe: Tune's loop asks and tells, a watcher stops."""

    def __init__(
        self, study: CandidateStudy, reference: Candidate, clock: BudgetClock, listen: Listener, trainers: int = 1
    ) -> None:
        self._study = study
        self._trainers = trainers
        self._reference = reference
        self._clock = clock
        self._listen = listen
        self._lock = threading.RLock()
        self._stopping = False
        self._exhausted = False
        self._idle_at: tuple[int, int] | None = None
        """How many had ended and ran when there was nothing to hand out."""
        self._aborted: Exception | None = None

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
        with self._lock:
            decided, running = self._study.outcomes(), self._study.running()
            situation = (len(decided), len(running))
            if situation == self._idle_at:
                return None  # Tune asks many times a second, and thinking takes a core that others need
            asked = self._ask(decided, [asked.candidate for asked in running])
            self._idle_at = situation if asked is None else None
            return None if asked is None else (asked.number, asked.candidate)

    def _ask(self, decided: Sequence[Decided], running: Sequence[Candidate]) -> Asked | None:
        if self._clock.left(len(decided) + len(running)) == 0 or len(running) >= AT_FIRST + len(decided):
            return None
        view = make_view(self._study.space, rows(decided), self._reference, running)
        if not self._study.waits and self._too_early(view, running):
            return None
        crowded = view is not None and view.queue() > QUEUE_A_TRAINER * self._trainers
        proposals = propose(view, new_networks=not crowded) if view else ()
        # The sampler would most likely bring one more that has to be trained.
        asked = self._study.ask(proposals, sample=not crowded)
        self._exhausted = asked is None and not running
        return asked

    def _too_early(self, view: View | None, running: Sequence[Candidate]) -> bool:
        """Whether to wait for what is in flight before anything is proposed.

        Before the reference is measured nothing can be judged; and what is proposed next is served where the unchanged
        network runs fastest, so most of its deployments come first. The slow ones at the end are not waited for.
        """
        space = self._study.space
        unchanged = [candidate for candidate in running if not space.network(candidate)]
        return bool(running) and (view is None or len(unchanged) > max(1, len(space.targets) // 2))

    def tell(self, number: int, outcome: Outcome) -> None:
        """How a candidate ended. One that was stopped together with the job is given back: nobody is to blame."""
        with self._lock:
            if isinstance(outcome, Failed) and outcome.kind.transient and self.finished:
                self._study.release(number)
                return
            self._study.tell(number, outcome)
            decided = self._study.outcomes()
            self._exhausted = self._exhausted or self._clock.left(len(decided)) == 0
        self._listen(rows(decided))

    def judge(self) -> Judge | None:
        """The judge of the outcomes so far; None until the reference has been measured."""
        with self._lock:
            return make_judge(self._study.space, rows(self._study.outcomes()), self._reference)

    def outcomes(self) -> list[Row]:
        """Every candidate that has ended."""
        with self._lock:
            return rows(self._study.outcomes())

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopping = True

    def abort(self, error: Exception) -> None:
        """Stop because the search cannot go on (the store failed, the reference cannot be measured); `check` raises it."""
        self._aborted = error
        self.stop()

    def check(self) -> None:
        """Nothing, or the error that ended the search."""
        if self._aborted is not None:
            raise self._aborted


def rows(decided: Sequence[Decided]) -> list[Row]:
    """Number, candidate, outcome."""
    return [(entry.number, entry.candidate, entry.outcome) for entry in decided]
