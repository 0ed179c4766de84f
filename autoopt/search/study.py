"""The memory of a search: an Optuna study in which every trial is a candidate and ends in an outcome.

The study's storage is the only truth. A trial is

* COMPLETE: the candidate was measured; its values are (score, latency in ms);
* PRUNED with a violated constraint: eliminated, or failed by its own fault, so that the sampler learns to avoid its like
  (TPE does not see FAIL: of 156 candidates 56 were doomed, against 8 of 111 when told this way);
* FAIL: nothing was learnt: interrupted (its candidate waits again), or a repetition that was never handed out;
* RUNNING: somebody works at it; after a crash nobody does, and `CandidateStudy.reconcile` lets it wait again.

One process asks and tells. Others may read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from autoopt.errors import FailureKind, JobError
from autoopt.records import (
    Candidate,
    Failed,
    Outcome,
    outcome_to_json,
    to_json,
)
from autoopt.search.census import Census, census_of
from autoopt.search.moves import started
from autoopt.search.sampler import make_sampler, parameters_of, sample, start_parameters
from autoopt.search.telling import (
    CANDIDATE,
    OUTCOME,
    WHY,
    Asked,
    Decided,
    Proposal,
    asked_of,
    decided_of,
    values_of,
    violation_of,
)
from autoopt.space import Space, draw, every

__all__ = ["MAX_ATTEMPTS", "Asked", "CandidateStudy", "Decided", "Proposal"]

NAME = "autoopt"
MAX_ATTEMPTS = 3
"""A candidate that was interrupted this often is given up: it may be what takes the node down."""
_ASKED_AGAIN = 8
_DRAWN_AGAIN = 200
_ID, _ATTEMPT, _DROPPED, _POSTPONED = "candidate_id", "attempt", "dropped", "postponed"
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
_CONSTRAINT = "viable"


class CandidateStudy:
    """Ask for candidates, tell outcomes."""

    def __init__(self, storage: BaseStorage, space: Space, *, sampler: str = "tpe", seed: int = 0) -> None:
        """Open the study in the storage, or make it.

        Raises:
            JobError: the storage holds a search of another space.
        """
        # A trial a line on stderr is not what the user asked for.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        self._study = optuna.create_study(
            storage=storage,
            study_name=NAME,
            directions=[StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE],
            load_if_exists=True,
        )
        self._check_space()
        trials = self._study.get_trials(deepcopy=False)
        # Another seed each time it is opened: the same one would repeat the draws of the last time.
        self._study.sampler = make_sampler(sampler, seed + len(trials))
        self._random = Random(f"{seed}/{len(trials)}")  # noqa: S311 (draws candidates, keeps no secrets)
        self._handles: dict[int, Trial] = {}
        self._decoded: dict[int, Decided] = {}

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
        seen = self.seen()
        fresh = next((proposal for proposal in proposals if proposal.candidate.id not in seen), None)
        if fresh is None:
            return self._ask_sampler(seen, worth) if sample else None
        self._enqueue(fresh.candidate, fresh.why, attempt=1)
        return self._ask_waiting()

    def enqueue(self, proposals: Iterable[Proposal]) -> int:
        """Let candidates wait, in this order; those that are known are left out. Returns how many are new."""
        seen = set(self.seen())
        count = 0
        for proposal in proposals:
            if proposal.candidate.id not in seen:
                seen.add(proposal.candidate.id)
                self._enqueue(proposal.candidate, proposal.why, attempt=1)
                count += 1
        return count

    def tell(self, number: int, outcome: Outcome) -> None:
        """How the candidate of that number ended. Telling an ended one again changes nothing.

        An interrupted candidate waits again, up to `MAX_ATTEMPTS` times in all.
        """
        trial = self._handle(number)
        frozen = self._frozen(number)
        if frozen.state.is_finished():
            return
        attempt = int(frozen.user_attrs.get(_ATTEMPT, 1))
        if isinstance(outcome, Failed) and outcome.kind.transient and attempt < MAX_ATTEMPTS:
            self._try_again(frozen, attempt + 1)
            return
        trial.set_user_attr(OUTCOME, outcome_to_json(outcome))
        trial.set_constraint(_CONSTRAINT, violation_of(outcome, self.space.max_drop_of_interest))
        values = values_of(outcome)
        if values is None:
            self._study.tell(number, state=TrialState.PRUNED)
        else:
            self._study.tell(number, values)
        self._handles.pop(number, None)

    def record(self, proposal: Proposal, outcome: Outcome) -> None:
        """How a candidate ended that nobody had to work at. While nothing else waits, and not for a known one."""
        self._enqueue(proposal.candidate, proposal.why, attempt=1)
        asked = self._ask_waiting()
        assert asked is not None, "it has just been enqueued"
        self.tell(asked.number, outcome)

    def release(self, number: int) -> None:
        """Give a candidate back that was not worked at to its end by no fault of its own: it waits again."""
        frozen = self._frozen(number)
        if not frozen.state.is_finished():
            self._try_again(frozen, int(frozen.user_attrs.get(_ATTEMPT, 1)))

    def note_postponed(self, number: int, *, postponed: bool) -> None:
        """Whether nobody works at the candidate although it has not ended: a crash meanwhile is not its doing."""
        self._handle(number).set_user_attr(_POSTPONED, postponed)

    def reconcile(self) -> int:
        """After a crash: let what was RUNNING wait again. Returns how many candidates.

        Safe to be killed and repeated at any point: a candidate is enqueued before its stale trial is closed, and not if
        it waits already.
        """
        count = 0
        for frozen in self._trials(TrialState.RUNNING):
            if frozen.user_attrs.get(_POSTPONED):
                count += 1
                self.release(frozen.number)
                continue
            attempt = int(frozen.user_attrs.get(_ATTEMPT, 1))
            if CANDIDATE in frozen.user_attrs and attempt >= MAX_ATTEMPTS:
                message = f"the search died {attempt} times while it worked at this candidate"
                self.tell(frozen.number, Failed("", FailureKind.INTERRUPTED, message))
                continue
            count += CANDIDATE in frozen.user_attrs
            self._try_again(frozen, attempt + 1)
        return count

    def seen(self) -> frozenset[str]:
        """The identifiers of all candidates that wait, run or have ended."""
        live = self._trials(TrialState.WAITING, TrialState.RUNNING, *_ENDED)
        return frozenset(trial.user_attrs[_ID] for trial in live if _ID in trial.user_attrs)

    def outcomes(self) -> tuple[Decided, ...]:
        """All candidates that have ended, in the order in which they were handed out."""
        for frozen in self._trials(*_ENDED):
            if frozen.number not in self._decoded and OUTCOME in frozen.user_attrs:
                self._decoded[frozen.number] = decided_of(frozen)
        return tuple(self._decoded[number] for number in sorted(self._decoded))

    def running(self) -> tuple[Asked, ...]:
        """The candidates that somebody works at."""
        return tuple(asked_of(t) for t in self._trials(TrialState.RUNNING) if CANDIDATE in t.user_attrs)

    @property
    def waits(self) -> bool:
        """Whether a candidate waits to be asked for."""
        return bool(self._trials(TrialState.WAITING))

    def census(self) -> Census:
        """Counts of outcomes by cause."""
        retried = sum(CANDIDATE in t.user_attrs and _DROPPED not in t.user_attrs for t in self._trials(TrialState.FAIL))
        return census_of(
            [decided.outcome for decided in self.outcomes()],
            running=len(self.running()),
            waiting=sum(CANDIDATE in trial.user_attrs for trial in self._trials(TrialState.WAITING)),
            retried=retried,
        )

    def _ask_waiting(self) -> Asked | None:
        while self._trials(TrialState.WAITING):
            trial = self._study.ask()
            frozen = self._frozen(trial.number)
            if CANDIDATE not in frozen.user_attrs:
                # The process died between the two halves of asking the sampler: nobody has heard of this trial.
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            asked = asked_of(frozen)
            self._handles[trial.number] = trial
            if parameters_of(self.space, asked.candidate) is not None:
                sample(self.space, trial)  # records the parameters for the sampler; they are fixed by the enqueuing
            return asked
        return None

    def _ask_sampler(self, seen: frozenset[str], worth: Callable[[Candidate], bool]) -> Asked | None:
        for _ in range(_ASKED_AGAIN):
            self._study.enqueue_trial(dict(start_parameters(self.space)))
            trial = self._study.ask()
            candidate = sample(self.space, trial)
            trial.set_user_attr(_ID, candidate.id)
            if candidate.id not in seen and worth(candidate):
                trial.set_user_attr(WHY, "sampler")
                trial.set_user_attr(CANDIDATE, to_json(candidate))
                self._handles[trial.number] = trial
                return Asked(trial.number, candidate, "sampler")
            trial.set_user_attr(_DROPPED, candidate.id)
            self._study.tell(trial, state=TrialState.FAIL)
        fresh = self._untried(seen, worth)
        if fresh is None:
            return None
        self._enqueue(fresh, "the sampler repeats itself: drawn evenly", attempt=1)
        return self._ask_waiting()

    def _untried(self, seen: frozenset[str], worth: Callable[[Candidate], bool]) -> Candidate | None:
        drawn = [started(self.space, draw(self.space, self._random)) for _ in range(_DRAWN_AGAIN)]
        best = next((c for c in drawn if c.id not in seen and worth(c)), None)
        # At the end of a space, what is hardly worth it has its turn as well.
        return best or next((c for c in itertools.chain(drawn, every(self.space)) if c.id not in seen), None)

    def _enqueue(self, candidate: Candidate, why: str, attempt: int) -> None:
        attributes: dict[str, Any] = {
            _ID: candidate.id,
            CANDIDATE: to_json(candidate),
            WHY: why,
            _ATTEMPT: attempt,
        }
        self._study.enqueue_trial(dict(parameters_of(self.space, candidate) or {}), user_attrs=attributes)

    def _try_again(self, frozen: FrozenTrial, attempt: int) -> None:
        """Enqueue first, close second: a crash in between doubles nothing, since the next `reconcile` sees that it waits."""
        if CANDIDATE in frozen.user_attrs:
            waiting = {trial.user_attrs.get(_ID) for trial in self._trials(TrialState.WAITING)}
            if frozen.user_attrs[_ID] not in waiting:
                self._enqueue(asked_of(frozen).candidate, frozen.user_attrs.get(WHY, ""), attempt)
        self._study.tell(frozen.number, state=TrialState.FAIL)
        self._handles.pop(frozen.number, None)

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

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _frozen(self, number: int) -> FrozenTrial:
        trials = self._trials()
        if not 0 <= number < len(trials):
            message = f"there is no candidate number {number}; there are {len(trials)}"
            raise JobError(message)
        return trials[number]

    def _handle(self, number: int) -> Trial:
        """The live trial; made again where another process asked for it."""
        if number not in self._handles:
            self._handles[number] = Trial(self._study, self._frozen(number)._trial_id)  # noqa: SLF001 (Optuna's own way)
        return self._handles[number]
