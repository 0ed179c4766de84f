"""A study's trials in memory, each change written through to the storage before it is made here.

A study has one writer: what it has read when it opened the study, and written since, is what there is. So it never reads again,
and finding who waits costs the same at ten thousand candidates as at ten. A write that fails changes nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from autoopt.errors import JobError
from autoopt.records import Candidate, Outcome, outcome_to_json, to_json
from autoopt.search.sampler import recorded
from autoopt.search.storage import read_trials
from autoopt.search.telling import (
    CANDIDATE,
    CONSTRAINT,
    OUTCOME,
    WHY,
    Asked,
    Decided,
    asked_of,
    decided_of,
    values_of,
    violation_of,
)
from autoopt.space import Space

_ID, _ATTEMPT, _DEATHS, _DROPPED, _POSTPONED = "candidate_id", "attempt", "deaths", "dropped", "postponed"


@dataclass
class Held:
    """A trial that has not ended."""

    number: int
    trial_id: int
    asked: Asked | None
    """None: its process died before it said which candidate it is."""
    attempt: int = 1
    """Which one this is: those before were interrupted while the search lived."""
    deaths: int = 0
    """So often the search died while somebody worked at it."""
    postponed: bool = False


class Trials:
    """By their numbers. Not thread-safe."""

    def __init__(self, storage: BaseStorage, study_id: int, space: Space) -> None:
        """Read the study."""
        self._storage, self._study_id, self._space = storage, study_id, space
        self.waiting: dict[int, Held] = {}
        """In the order in which they came."""
        self.running: dict[int, Held] = {}
        self.seen: set[str] = set()
        """Identifiers of candidates that wait, run or have ended; one that failed waits again."""
        self.retried = 0
        """Trials of candidates that were interrupted."""
        self._decided: dict[int, Decided] = {}
        self._in_order: tuple[Decided, ...] | None = None
        self._count = 0
        for frozen in read_trials(storage, study_id):
            self._take(frozen)

    def __len__(self) -> int:
        return self._count

    @property
    def decided(self) -> tuple[Decided, ...]:
        """Those that have ended, in the order in which they were handed out."""
        if self._in_order is None:
            self._in_order = tuple(self._decided[number] for number in sorted(self._decided))
        return self._in_order

    def live(self, number: int) -> Held | None:
        """The trial, None where it has ended.

        Raises:
            JobError: there is none of that number.
        """
        if not 0 <= number < self._count:
            message = f"there is no candidate number {number}; there are {self._count}"
            raise JobError(message)
        return self.running.get(number) or self.waiting.get(number)

    def _take(self, frozen: FrozenTrial) -> None:
        self._count += 1
        attributes = frozen.user_attrs
        if frozen.state is TrialState.FAIL:
            self.retried += CANDIDATE in attributes and _DROPPED not in attributes
            return
        if _ID in attributes:
            self.seen.add(attributes[_ID])
        if not frozen.state.is_finished():
            asked = asked_of(frozen) if CANDIDATE in attributes else None
            held = Held(
                frozen.number,
                frozen._trial_id,  # noqa: SLF001 (Optuna's own way)
                asked,
                int(attributes.get(_ATTEMPT, 1)),
                int(attributes.get(_DEATHS, 0)),
                bool(attributes.get(_POSTPONED)),
            )
            (self.running if frozen.state is TrialState.RUNNING else self.waiting)[frozen.number] = held
        elif OUTCOME in attributes:
            self._decided[frozen.number] = decided_of(frozen)

    def add(self, candidate: Candidate, why: str, *, attempt: int = 1, deaths: int = 0, waits: bool) -> Held:
        """A new trial, that waits or that somebody works at from now on."""
        state = TrialState.WAITING if waits else TrialState.RUNNING
        number, trial_id = self._create(candidate, why, state, more={_ATTEMPT: attempt, _DEATHS: deaths})
        held = Held(number, trial_id, Asked(number, candidate, why), attempt, deaths)
        (self.waiting if waits else self.running)[number] = held
        return held

    def add_decided(self, candidate: Candidate, why: str, outcome: Outcome) -> None:
        """A new trial of a candidate that has ended already."""
        state, values = _ended(outcome)
        number, _ = self._create(
            candidate,
            why,
            state,
            values=values,
            more={OUTCOME: outcome_to_json(outcome)},
            constraints=self._constraints(outcome),
        )
        self._decide(Decided(number, candidate, outcome, why))

    def begin(self, held: Held) -> None:
        """Somebody works at what waited.

        Raises:
            JobError: somebody else does: another process writes into the same study.
        """
        if not self._storage.set_trial_state_values(held.trial_id, TrialState.RUNNING):
            raise self._two_writers()
        self.running[held.number] = self.waiting.pop(held.number)

    def end(self, held: Held, outcome: Outcome) -> None:
        """It has ended so. The state comes last: after a crash before it, nobody has heard of the outcome."""
        assert held.asked is not None, "only candidates end in outcomes"
        self._storage.set_trial_user_attr(held.trial_id, OUTCOME, outcome_to_json(outcome))
        told = create_trial(state=TrialState.RUNNING, constraints=self._constraints(outcome)).system_attrs
        for key, value in told.items():
            self._storage.set_trial_system_attr(held.trial_id, key, value)
        self._storage.set_trial_state_values(held.trial_id, *_ended(outcome))
        self._forget(held)
        self._decide(Decided(held.number, held.asked.candidate, outcome, held.asked.why))

    def fail(self, held: Held) -> None:
        """Nothing was learnt from it."""
        self._storage.set_trial_state_values(held.trial_id, TrialState.FAIL)
        self._forget(held)
        self.retried += held.asked is not None

    def note_postponed(self, held: Held, *, postponed: bool) -> None:
        """Whether nobody works at it although it has not ended."""
        self._storage.set_trial_user_attr(held.trial_id, _POSTPONED, postponed)
        held.postponed = postponed

    def _create(
        self,
        candidate: Candidate,
        why: str,
        state: TrialState,
        *,
        values: Sequence[float] | None = None,
        more: dict[str, Any] | None = None,
        constraints: dict[str, float] | None = None,
    ) -> tuple[int, int]:
        attributes = {_ID: candidate.id, CANDIDATE: to_json(candidate), WHY: why}
        parameters, distributions = recorded(self._space, candidate) or ({}, {})
        template = create_trial(
            state=state,
            values=values,
            params=parameters,
            distributions=distributions,
            user_attrs=attributes | (more or {}),
            constraints=constraints,
        )
        trial_id = self._storage.create_new_trial(self._study_id, template)
        number = self._storage.get_trial_number_from_id(trial_id)
        if number != self._count:
            raise self._two_writers()
        self._count += 1
        self.seen.add(candidate.id)
        return number, trial_id

    def _constraints(self, outcome: Outcome) -> dict[str, float]:
        return {CONSTRAINT: violation_of(outcome, self._space.max_drop_of_interest)}

    def _forget(self, held: Held) -> None:
        self.running.pop(held.number, None)
        self.waiting.pop(held.number, None)

    def _decide(self, decided: Decided) -> None:
        self._decided[decided.number] = decided
        self._in_order = None

    def _two_writers(self) -> JobError:
        name = self._storage.get_study_name_from_id(self._study_id)
        return JobError(f"another process writes into the study {name!r}; a study has one job: end the other one")


def _ended(outcome: Outcome) -> tuple[TrialState, tuple[float, float] | None]:
    values = values_of(outcome)
    return (TrialState.PRUNED, None) if values is None else (TrialState.COMPLETE, values)
