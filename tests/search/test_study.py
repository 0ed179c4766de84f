from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from autoopt.errors import FailureKind, JobError
from autoopt.records import Candidate, Eliminated, Failed, Measured
from autoopt.search.journal import open_journal
from autoopt.search.storage import open_storage
from autoopt.search.study import MAX_ATTEMPTS, MAX_DEATHS, CandidateStudy, Proposal
from autoopt.search.study_url import VARIABLE, parse_study
from autoopt.space import Listed, Space, every, recompose, size

Outcomes = Callable[[Candidate, float, float], Measured]
Opened: TypeAlias = Callable[[], BaseStorage]
SLOW = Eliminated("latency", "too slow")
CRASHED = Failed("build vino", FailureKind.CRASHED, "SIGSEGV")
INTERRUPTED = Failed("measure", FailureKind.INTERRUPTED, "the node went away")


@pytest.fixture
def study(space: Space) -> CandidateStudy:
    return CandidateStudy(InMemoryStorage(), space, sampler="random")


@pytest.fixture(params=["journal", "sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a study that is kept somewhere, "journal" for a file in the test's folder."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("database")
        return url
    return f"sqlite:///{tmp_path / 'study.db'}" if request.param == "sqlite" else "journal"


@pytest.fixture
def opened(place: str, tmp_path: Path) -> Opened:
    """Open the same storage, as often as one likes."""
    study = None if place == "journal" else parse_study(place)
    return lambda: open_storage(study, tmp_path / "job" / "study.journal")


def states(study: CandidateStudy) -> list[TrialState]:
    return [trial.state for trial in study._study.get_trials(deepcopy=False)]


def small(space: Space) -> Space:
    """Seven candidates."""
    return replace(space, steps=space.steps[3:], targets=space.targets[:3])


def test_each_outcome_is_told_so_that_the_sampler_learns_from_it(
    study: CandidateStudy, reference: Candidate, outcome: Outcomes
) -> None:
    asked = [study.ask() for _ in range(4)]
    told = [outcome(reference, 0.9, 1.0), outcome(reference, 0.5, 1.0), SLOW, CRASHED]
    for each, ending in zip(asked, told, strict=True):
        assert each is not None
        study.tell(each.number, ending)
    trials = study._study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2 + [TrialState.PRUNED] * 2
    assert trials[0].values == [0.9, 1.0]
    assert [trial.constraints["viable"] <= 0 for trial in trials] == [True, False, False, False]
    assert [decided.outcome for decided in study.outcomes()] == told
    assert [decided.candidate for decided in study.outcomes()] == [each.candidate for each in asked if each]


def test_no_candidate_is_handed_out_twice_and_a_small_space_ends(space: Space) -> None:
    study = CandidateStudy(InMemoryStorage(), small(space), sampler="tpe")
    found = set()
    while (asked := study.ask()) is not None:
        assert asked.candidate.id not in found
        found.add(asked.candidate.id)
        study.tell(asked.number, SLOW)
    assert found == {candidate.id for candidate in every(small(space))}
    assert len(found) == size(small(space)).count == 7


def test_proposals_come_before_the_sampler_and_those_known_are_passed_over(study: CandidateStudy, space: Space) -> None:
    proposals = [Proposal(recompose(space, {"engine": engine}), engine) for engine in ("runtime", "vino")]
    first, second = study.ask(proposals), study.ask(proposals)
    assert first is not None
    assert second is not None
    assert [first.candidate, second.candidate] == [proposal.candidate for proposal in proposals]
    assert [first.why, second.why] == ["runtime", "vino"]
    third = study.ask(proposals)
    assert third is not None
    assert third.why == "sampler"


def test_what_was_enqueued_comes_first_in_order_and_once(
    study: CandidateStudy, space: Space, reference: Candidate
) -> None:
    outside = replace(reference, deployment=replace(reference.deployment, threads=7))
    plain = recompose(space, {})
    assert study.enqueue([Proposal(outside, "reference"), Proposal(plain, "list"), Proposal(plain, "again")]) == 2
    first, second = study.ask(), study.ask()
    assert first is not None
    assert second is not None
    assert [first.candidate, second.candidate] == [outside, plain]
    assert study.enqueue([Proposal(plain, "list")]) == 0


def test_the_sampler_knows_the_parameters_of_a_proposal(study: CandidateStudy, space: Space) -> None:
    asked = study.ask([Proposal(recompose(space, {"student": True, "student.depth": 0.6}), "x")])
    assert asked is not None
    study.tell(asked.number, SLOW)
    assert study._study.get_trials()[asked.number].params["student.depth"] == 2


def test_an_interrupted_candidate_waits_again_until_it_is_given_up(study: CandidateStudy) -> None:
    first = study.ask()
    assert first is not None
    asked = first
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert asked.candidate == first.candidate
        study.tell(asked.number, INTERRUPTED)
        following = study.ask()
        assert following is not None
        assert (following.candidate == first.candidate) is (attempt < MAX_ATTEMPTS)
        asked = following
    assert [decided.outcome for decided in study.outcomes()] == [INTERRUPTED]
    assert study.census().retried == MAX_ATTEMPTS - 1


def test_a_released_candidate_waits_again_as_if_never_asked(study: CandidateStudy) -> None:
    first = study.ask()
    assert first is not None
    number = first.number
    for _ in range(MAX_ATTEMPTS + 2):
        study.release(number)
        again = study.ask()
        assert again is not None
        assert again.candidate == first.candidate
        number = again.number


def test_telling_twice_keeps_the_first(study: CandidateStudy) -> None:
    asked = study.ask()
    assert asked is not None
    study.tell(asked.number, SLOW)
    study.tell(asked.number, CRASHED)
    assert [decided.outcome for decided in study.outcomes()] == [SLOW]


def test_the_census_counts_by_cause(study: CandidateStudy, reference: Candidate, outcome: Outcomes) -> None:
    for ending in (SLOW, SLOW, CRASHED, outcome(reference, 0.9, 1.0)):
        asked = study.ask()
        assert asked is not None
        study.tell(asked.number, ending)
    study.ask()
    census = study.census()
    assert (census.measured, census.eliminated, census.failed) == (1, {"latency": 2}, {"crashed": 1})
    assert (census.decided, census.running, census.waiting) == (4, 1, 0)


def test_a_reopened_study_reads_the_outcomes_and_goes_on(
    space: Space, opened: Opened, reference: Candidate, outcome: Outcomes
) -> None:
    study = CandidateStudy(opened(), space)
    asked = study.ask([Proposal(reference, "reference")])
    assert asked is not None
    study.tell(asked.number, outcome(reference, 0.92, 2.0))
    again = CandidateStudy(opened(), space)
    assert again.outcomes() == study.outcomes()
    following = again.ask([Proposal(reference, "reference")])
    assert following is not None
    assert following.candidate != reference


def test_a_reopened_study_is_what_it_was_whatever_has_happened(
    space: Space, opened: Opened, reference: Candidate, outcome: Outcomes
) -> None:
    """What is held in memory is what is stored: waiting, running, postponed, interrupted, ended in each way, told at once."""
    study = CandidateStudy(opened(), space, sampler="random")
    study.enqueue([Proposal(reference, "reference"), Proposal(recompose(space, {}), "list")])
    study.record(Proposal(recompose(space, {"engine": "vino"}), "earlier"), outcome(reference, 0.91, 1.0))
    asked = [study.ask() for _ in range(7)]
    numbers = [each.number for each in asked if each is not None]
    for number, ending in zip(numbers, (outcome(reference, 0.92, 2.0), SLOW, CRASHED, INTERRUPTED), strict=False):
        study.tell(number, ending)
    study.release(numbers[4])
    study.note_postponed(numbers[5], postponed=True)
    again = CandidateStudy(opened(), space, sampler="random")
    assert again.outcomes() == study.outcomes()
    assert again.running() == study.running()
    assert again.seen() == study.seen()
    assert again.census() == study.census()
    assert again.census().retried == 2
    assert again.reconcile() == 2
    assert {each.candidate for each in again.running()} == set()
    waiting = [again.ask() for _ in range(again.census().waiting)]
    live = [each.candidate.id for each in (asked[3], asked[4], asked[5], asked[6]) if each is not None]
    assert sorted(each.candidate.id for each in waiting if each is not None) == sorted(live)


def test_another_space_is_refused(space: Space) -> None:
    storage = InMemoryStorage()
    CandidateStudy(storage, space)
    with pytest.raises(JobError, match="another space"):
        CandidateStudy(storage, replace(space, threads=(1, 2)))


def test_reconciling_lets_stale_candidates_wait_once_however_often_it_is_done(space: Space, opened: Opened) -> None:
    study = CandidateStudy(opened(), space)
    asked = [study.ask(), study.ask()]
    again = CandidateStudy(opened(), space)
    assert again.reconcile() == 2
    assert again.reconcile() == 0
    waiting = [again.ask(), again.ask()]
    assert [each.candidate for each in waiting if each] == [each.candidate for each in asked if each]
    assert states(again).count(TrialState.RUNNING) == 2


def test_who_was_postponed_when_the_search_died_is_not_to_blame(space: Space) -> None:
    storage = InMemoryStorage()
    for _ in range(MAX_DEATHS + 1):
        study = CandidateStudy(storage, space, sampler="random")
        study.reconcile()
        asked = study.ask()
        assert asked is not None
        study.note_postponed(asked.number, postponed=True)
    assert not study.outcomes()
    study.note_postponed(asked.number, postponed=False)
    for _ in range(MAX_DEATHS):
        study.reconcile()
        study.ask()
    study.reconcile()
    (given_up,) = study.outcomes()
    assert isinstance(given_up.outcome, Failed)


def test_a_search_that_was_killed_ten_times_gives_nobody_up(space: Space) -> None:
    storage = InMemoryStorage()
    first = CandidateStudy(storage, space).ask()
    assert first is not None
    for _ in range(10):
        study = CandidateStudy(storage, space)
        assert study.reconcile() == 1
        again = study.ask()
        assert again is not None
        assert again.candidate == first.candidate
    study.tell(again.number, INTERRUPTED)
    waiting = study.ask()
    assert waiting is not None
    assert waiting.candidate == first.candidate, "an interruption while the search lives is counted for itself"


def test_a_crash_in_the_middle_of_reconciling_doubles_nothing(space: Space) -> None:
    storage = InMemoryStorage()
    study = CandidateStudy(storage, space)
    asked = study.ask()
    assert asked is not None
    study._trials.add(asked.candidate, asked.why, attempt=2, waits=True)  # … and there the process died
    again = CandidateStudy(storage, space)
    again.reconcile()
    assert states(again) == [TrialState.FAIL, TrialState.WAITING]


def test_a_half_written_line_is_cut_off_and_the_study_goes_on(space: Space, tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    study = CandidateStudy(open_journal(path), space)
    asked = study.ask()
    assert asked is not None
    study.tell(asked.number, SLOW)
    with path.open("ab") as file:
        file.write(b'{"op_code": 6, "worker_id"')
    for _ in range(2):
        again = CandidateStudy(open_journal(path), space)
        assert again.outcomes()[0].outcome == SLOW
        following = again.ask()
        assert following is not None
        again.tell(following.number, SLOW)


CHILD = """
import pickle, sys
from pathlib import Path
from autoopt.records import Eliminated
from autoopt.search.storage import open_storage
from autoopt.search.study import CandidateStudy
from autoopt.search.study_url import asked_study
folder = Path(sys.argv[1])
space = pickle.loads((folder / "space.pickle").read_bytes())
storage = open_storage(asked_study(None), folder / "job" / "study.journal")
study = CandidateStudy(storage, space, sampler="random")
study.reconcile()
flight = []
while True:
    asked = study.ask()
    print("asked", asked.candidate.id, flush=True)
    flight.append(asked)
    if len(flight) > 2:
        done = flight.pop(0)
        study.tell(done.number, Eliminated("latency", "slow"))
        print("told", done.candidate.id, flush=True)
"""


def test_after_kill_9_no_candidate_is_lost_none_doubled_and_none_runs(
    space: Space, tmp_path: Path, place: str, opened: Opened
) -> None:
    (tmp_path / "space.pickle").write_bytes(pickle.dumps(space))
    asked: set[str] = set()
    told: list[str] = []
    for lines in (7, 12):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {VARIABLE: place},
        ) as process:
            assert process.stdout is not None
            said = [process.stdout.readline().split() for _ in range(lines)]
            process.kill()
            said += [words for line in process.stdout if len(words := line.split()) == 2]
        asked |= {name for what, name in said if what == "asked"}
        told += [name for what, name in said if what == "told"]
    study = CandidateStudy(opened(), space)
    study.reconcile()
    decided = [each.candidate.id for each in study.outcomes()]
    assert len(set(decided)) == len(decided)
    assert set(told) <= set(decided)
    assert asked <= study.seen()
    assert TrialState.RUNNING not in states(study)
    waiting = study.census().waiting
    again = [study.ask() for _ in range(waiting)]
    assert not {each.candidate.id for each in again if each} & set(decided)
    assert asked - set(decided) <= {each.candidate.id for each in again if each}


def test_an_ordered_choice_is_suggested_by_its_place(space: Space) -> None:
    assert Listed((0.2, 0.4)).ordered
    assert not Listed(("influence", "late")).ordered
    assert space.step("student").parameters[0].domain.neighbours(0.4) == (0.2, 0.6)
