"""The sampler's own study: it learns, it forgets what is old and poor, and never what is best."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from autoopt.errors import UserError
from autoopt.records import Candidate, Eliminated, Measured
from autoopt.search import advisor as advisor_module
from autoopt.search.advisor import BEST, SEEN, Advisor, Lesson, best, kept
from autoopt.search.sampler import recorded
from autoopt.space import Space, choices_of, draw, recompose

Outcomes = Callable[[Candidate, float, float], Measured]
SLOW = Eliminated("latency", "too slow")


def lessons(space: Space, figures: list[tuple[float, float] | None]) -> list[Lesson]:
    candidate = recompose(space, {})
    return [Lesson(candidate, values, 1.0 if values is None else 0.0) for values in figures]


def test_what_is_drawn_is_valid_and_the_seed_decides(space: Space) -> None:
    first, second = Advisor(space, "tpe", 3), Advisor(space, "tpe", 3)
    drawn = [first.draw() for _ in range(20)]
    assert all(choices_of(space, candidate) is not None for candidate in drawn)
    assert drawn == [second.draw() for _ in range(20)]


def test_it_learns_from_what_ended(space: Space, outcome: Outcomes) -> None:
    """One engine is fast, all others are eliminated: soon it is drawn nearly always."""
    advisor, random = Advisor(space, "tpe", 0), Random(0)
    for _ in range(60):
        candidate = draw(space, random)
        good = candidate.deployment.engine == "vino"
        advisor.learn(candidate, outcome(candidate, 0.92, 0.1) if good else SLOW)
    drawn = [advisor.draw().deployment.engine for _ in range(20)]
    assert drawn.count("vino") > 16


@pytest.mark.parametrize("begun", [False, True])
def test_who_is_worked_at_is_known_until_it_has_ended(space: Space, *, begun: bool) -> None:
    advisor, candidate = Advisor(space, "tpe", 0), recompose(space, {})
    if begun:
        advisor.draw()
    advisor.begin(7, candidate)
    advisor.draw()
    study = advisor._attended().study
    running = [trial.params for trial in study.get_trials() if trial.state.name == "RUNNING"]
    known = recorded(space, candidate)
    assert known is not None
    assert running == [known[0]]
    advisor.end(7)
    advisor.learn(candidate, SLOW)
    assert [trial.state.name for trial in study.get_trials()].count("RUNNING") == 0


def test_of_many_the_best_and_the_latest_are_kept_in_their_order(space: Space) -> None:
    random = Random(0)
    figures: list[tuple[float, float] | None] = [(0.99, 0.01)]
    figures += [
        None if random.random() < 0.5 else (random.uniform(0.5, 0.9), random.uniform(1, 2)) for _ in range(2000)
    ]
    known = lessons(space, figures)
    chosen = kept(known)
    assert len(chosen) == SEEN
    assert chosen[0] is known[0], "it was the best from the beginning"
    places = [next(i for i, lesson in enumerate(known) if lesson is each) for each in chosen]
    assert places == sorted(places)
    assert places[-(SEEN - 2 * BEST) :] == list(range(2001 - (SEEN - 2 * BEST), 2001))
    assert kept(known[:SEEN]) == known[:SEEN], "few are all kept"


def test_the_best_are_whole_fronts_of_what_is_viable(space: Space) -> None:
    known = lessons(space, [(0.9, 1.0), (0.8, 0.5), (0.7, 0.6), (0.7, 2.0), None])
    assert best(known, 1) == {0, 1}
    assert best(known, 3) == {0, 1, 2}
    assert best(known, 9) == {0, 1, 2, 3}
    poor = [Lesson(known[0].candidate, (0.99, 0.1), 0.5), *known]
    assert best(poor, 1) == {1, 2}, "who violates the constraint is not among them"


def test_what_the_sampler_sees_stays_small(space: Space, monkeypatch: pytest.MonkeyPatch, outcome: Outcomes) -> None:
    monkeypatch.setattr(advisor_module, "SEEN", 40)
    monkeypatch.setattr(advisor_module, "BEST", 10)
    advisor, random, seen = Advisor(space, "tpe", 0), Random(0), []
    for number in range(200):
        candidate = draw(space, random)
        advisor.begin(number, candidate)
        advisor.end(number)
        advisor.learn(candidate, outcome(candidate, random.uniform(0.88, 0.92), random.uniform(0.1, 2)))
        advisor.draw()
        seen.append(sum(trial.state.name == "COMPLETE" for trial in advisor._attended().study.get_trials()))
    assert max(seen) <= 61
    assert min(seen[100:]) >= 40


def test_a_misspelt_sampler_lists_those_there_are(space: Space) -> None:
    with pytest.raises(UserError, match='did you mean "tpe"'):
        Advisor(space, "tp", 0)
