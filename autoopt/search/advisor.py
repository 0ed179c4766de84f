"""The sampler's own study, in memory: what it learns from, and nothing more.

Apart from the study that remembers, for three reasons. What a sampler draws and nobody wants (a repetition) need not be written
anywhere. What it learns is known already: it need not be read from a database for every choice that it makes. And it must not
learn from everything: TPE looks at each trial that it knows for each group of choices that belong together, a second for one
candidate at ten thousand trials. Beyond `SEEN` it is told of the best and the latest. TPE tells good trials from bad ones
by the best 25 at most, so none of those is missed; and it weighs older bad ones less anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from autoopt.records import Candidate, Outcome
from autoopt.search.sampler import make_sampler, recorded, sample, start_parameters
from autoopt.search.storage import DIRECTIONS
from autoopt.search.telling import CONSTRAINT, values_of, violation_of
from autoopt.space import Space

SEEN = 500
"""So many trials that have ended."""
BEST = 50
"""Of these so many are the best there are, whenever they ended."""
_SLACK = 1.5
"""A new study of them is begun when the old one has grown by so much."""


@dataclass(frozen=True)
class Lesson:
    """A candidate that has ended, as a sampler sees it."""

    candidate: Candidate
    values: tuple[float, float] | None
    """(score, latency in ms); None where it was not measured."""
    violation: float
    """Of what is worth having; viable at 0 and below."""


@dataclass
class _Class:
    """What the sampler has been told since it was begun."""

    study: optuna.Study
    told: int = 0
    running: dict[int, int] = field(default_factory=dict)
    """Numbers of candidates that somebody works at, and their trials'."""


class Advisor:
    """Draws candidates, learns how they ended. Not thread-safe."""

    def __init__(self, space: Space, sampler: str, seed: int) -> None:
        """It knows nothing yet.

        Raises:
            UserError: there is no such sampler.
        """
        make_sampler(sampler, seed)
        self._space, self._sampler, self._seed = space, sampler, seed
        self._lessons: list[Lesson] = []
        self._running: dict[int, Candidate] = {}
        self._class: _Class | None = None

    def draw(self) -> Candidate:
        """A candidate that seems worth a try; it may be known."""
        study = self._attended().study
        study.enqueue_trial(dict(start_parameters(self._space)))
        trial = study.ask()
        candidate = sample(self._space, trial)
        study.tell(trial, state=TrialState.FAIL)  # nobody works at it unless `begin` says so
        return candidate

    def begin(self, number: int, candidate: Candidate) -> None:
        """Somebody works at it: until it has ended, its like is not drawn again so soon."""
        self._running[number] = candidate
        if self._class is not None:
            self._seat(self._class, number, candidate)

    def end(self, number: int) -> None:
        """Nobody works at it any more."""
        self._running.pop(number, None)
        trial = None if self._class is None else self._class.running.pop(number, None)
        if self._class is not None and trial is not None:
            self._class.study.tell(trial, state=TrialState.FAIL)

    def learn(self, candidate: Candidate, outcome: Outcome) -> None:
        """How a candidate ended."""
        lesson = Lesson(candidate, values_of(outcome), violation_of(outcome, self._space.max_drop_of_interest))
        self._lessons.append(lesson)
        if self._class is not None:
            self._teach(self._class, lesson)

    def _attended(self) -> _Class:
        if self._class is None or self._class.told > SEEN * _SLACK:
            seed = self._seed + len(self._lessons)
            study = optuna.create_study(
                storage=InMemoryStorage(), directions=DIRECTIONS, sampler=make_sampler(self._sampler, seed)
            )
            self._class = _Class(study)
            for lesson in kept(self._lessons):
                self._teach(self._class, lesson)
            for number, candidate in self._running.items():
                self._seat(self._class, number, candidate)
        return self._class

    def _teach(self, attended: _Class, lesson: Lesson) -> None:
        attended.told += 1
        known = recorded(self._space, lesson.candidate)
        if known is None:
            return
        parameters, distributions = known
        attended.study.add_trial(
            create_trial(
                state=TrialState.PRUNED if lesson.values is None else TrialState.COMPLETE,
                values=lesson.values,
                params=parameters,
                distributions=distributions,
                constraints={CONSTRAINT: lesson.violation},
            )
        )

    def _seat(self, attended: _Class, number: int, candidate: Candidate) -> None:
        known = recorded(self._space, candidate)
        if known is not None:
            parameters, distributions = known
            attended.study.add_trial(
                create_trial(state=TrialState.RUNNING, params=parameters, distributions=distributions)
            )
            attended.running[number] = len(attended.study.get_trials(deepcopy=False)) - 1


def kept(lessons: list[Lesson]) -> list[Lesson]:
    """The best and the latest, in the order in which they were learnt; all where they are not many."""
    if len(lessons) <= SEEN:
        return lessons
    chosen = best(lessons, BEST)
    for index in range(len(lessons) - 1, -1, -1):
        if len(chosen) == SEEN:
            break
        chosen.add(index)
    return [lessons[index] for index in sorted(chosen)]


def best(lessons: list[Lesson], count: int) -> set[int]:
    """Which come first when the viable ones are sorted by how many fronts lie before them; whole fronts, so a few more than ``count``.

    A front: what nobody left precedes on both figures. Found by a sweep in the order of latency.
    """
    rest = sorted(
        (lesson.values[1], -lesson.values[0], index)
        for index, lesson in enumerate(lessons)
        if lesson.values is not None and lesson.violation <= 0
    )
    chosen: set[int] = set()
    while rest and len(chosen) < count:
        behind, least = [], float("inf")
        for entry in rest:
            if entry[1] < least:
                least = entry[1]
                chosen.add(entry[2])
            else:
                behind.append(entry)
        rest = behind
    return chosen
