"""Where a study may be kept, what is said where it cannot be, and that a database's outage loses and doubles nothing."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import optuna
import psycopg
import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from autoopt.errors import JobError, StudyError, UserError
from autoopt.records import Candidate, Eliminated, Measured
from autoopt.search import database as database_module
from autoopt.search import patience as patience_module
from autoopt.search.budget import Budget, BudgetClock
from autoopt.search.conductor import Conductor
from autoopt.search.patience import PatientStorage
from autoopt.search.storage import (
    DIRECTIONS,
    PATIENCE,
    begin_study,
    check_study,
    discard_study,
    open_storage,
    read_ended,
    study_name,
)
from autoopt.search.study import CandidateStudy, Proposal
from autoopt.search.study_url import VARIABLE, StudyUrl, asked_study, known_study, parse_study
from autoopt.space import Space
from autoopt.testing.postgres import PostgresServer

Outcomes = Callable[[Candidate, float, float], Measured]
SLOW = Eliminated("latency", "too slow")
SECRET = "s3cret"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of whoever runs the tests."""
    for name in (VARIABLE, PATIENCE, "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))


@pytest.fixture(autouse=True)
def _always_up(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that has failed while the server was down must not fail the next one."""
    yield
    if "postgres" in request.fixturenames:
        server: PostgresServer = request.getfixturevalue("postgres")
        server.ensure_running()


def opened(url: str | StudyUrl, **settings: object) -> BaseStorage:
    study = parse_study(url) if isinstance(url, str) else url
    return open_storage(study, Path("unused"), **settings)  # type: ignore[arg-type]  # by keyword


def kinds_of_place(database: str, tmp_path: Path) -> dict[str, StudyUrl | None]:
    return {
        "postgresql": parse_study(database),
        "sqlite": parse_study(f"sqlite:///{tmp_path / 'study.db'}"),
        "journal": None,
    }


# ---- URLs


@pytest.mark.parametrize(
    ("given", "shown", "full"),
    [
        ("postgresql://u:p@h/db", "postgresql+psycopg://u:***@h/db", "postgresql+psycopg://u:p@h/db"),
        (
            "postgresql+psycopg://u:p%40%2F@h:5433/db?sslmode=require",
            "postgresql+psycopg://u:***@h:5433/db?sslmode=require",
            "postgresql+psycopg://u:p%40%2F@h:5433/db?sslmode=require",
        ),
        ("postgresql:///db", "postgresql+psycopg:///db", "postgresql+psycopg:///db"),
        ("postgresql://[::1]:5/db", "postgresql+psycopg://[::1]:5/db", "postgresql+psycopg://[::1]:5/db"),
        (
            "postgresql://h/db?user=u&password=p",
            "postgresql+psycopg://h/db?user=u&password=***",
            "postgresql+psycopg://h/db?user=u&password=p",
        ),
        ("sqlite:////a/b.db", "sqlite:////a/b.db", "sqlite:////a/b.db"),
    ],
)
def test_a_url_is_shown_without_its_password(given: str, shown: str, full: str) -> None:
    found = parse_study(given)
    assert (found.shown, str(found), found.full) == (shown, shown, full)
    assert "p%40" not in repr(found)
    assert "'p'" not in repr(found)


def test_a_file_is_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_study("sqlite:///study.db").full == f"sqlite:///{tmp_path}/study.db"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (f"mysql://u:{SECRET}@h/db", r"allowed are .*postgresql\+psycopg://.*sqlite:.*journal"),
        (f"postgresql+psycopg2://u:{SECRET}@h/db", "allowed are"),
        ("study.db", "allowed are"),
        (f"postgresql://u:{SECRET}@h", "names no database"),
        (f"postgresql://u:{SECRET}/x@h/db", "%2F for /"),
        (f"postgresql://u:{SECRET}?x@h/db", "%3F for ?"),
        (f"postgresql://u:{SECRET}#x@h/db", "%23 for #"),
        (f"postgresql://u:[{SECRET}@h/db", "cannot be read"),
        (f"postgresql://u:p@{SECRET}/x@h/db", "cannot be read"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_a_url_that_cannot_be_used_is_said_in_a_sentence_without_its_password(given: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        parse_study(given)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.__context__ is None or refused.value.__suppress_context__


def test_a_new_jobs_study_is_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_study(None) is None
    monkeypatch.setenv(VARIABLE, "postgresql://u:p@h/db")
    assert str(asked_study(None)) == "postgresql+psycopg://u:***@h/db"
    assert asked_study("journal") is None
    assert str(asked_study("sqlite:////a.db")) == "sqlite:////a.db"


def test_the_password_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = parse_study("postgresql://u:p@h/db").shown
    by_libpq = known_study(stored)
    assert by_libpq is not None
    assert by_libpq.full == "postgresql+psycopg://u@h/db"
    given = known_study(stored, "postgresql://u:given@h/db")
    assert given is not None
    assert given.password == "given"
    monkeypatch.setenv(VARIABLE, "postgresql://u:usual@h/db")
    usual = known_study(stored)
    assert usual is not None
    assert usual.password == "usual"
    monkeypatch.setenv(VARIABLE, "postgresql://u:usual@elsewhere/db")
    assert known_study(stored) == by_libpq, "of another database"
    assert known_study(None) is None, "the job's folder stays the job's folder"


@pytest.mark.parametrize(
    ("stored", "given"), [(None, f"postgresql://u:{SECRET}@h/db"), ("sqlite:////a.db", "sqlite:////b.db")]
)
def test_another_study_than_the_jobs_is_refused(stored: str | None, given: str) -> None:
    with pytest.raises(UserError, match="this job's study is") as refused:
        known_study(stored, given)
    assert SECRET not in str(refused.value)


# ---- What a database says


def damaged(url: str, **changes: object) -> StudyUrl:
    """The URL with parts changed."""
    return replace(parse_study(url), **changes)  # type: ignore[arg-type]  # its fields


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"port": 1}, "Connection refused.*see whether it runs"),
        ({"password": SECRET}, "password authentication failed.*correct the user .*PGPASSWORD"),
        ({"password": ""}, "no password supplied; a job's files hold no password: give it in --study"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist; make it: createdb .* "nowhere"'),
    ],
)
@pytest.mark.parametrize(
    "begin", [lambda study: begin_study(study, "job"), lambda study: opened(study, writable=False)]
)
def test_a_database_that_cannot_be_used_is_said_in_a_sentence_before_any_work(
    postgres: PostgresServer,
    database: str,
    changes: dict[str, object],
    message: str,
    begin: Callable[[StudyUrl], object],
) -> None:
    with pytest.raises(StudyError, match=message) as refused:
        begin(damaged(database, **changes))
    assert "\n" not in str(refused.value)
    assert not any(secret in str(refused.value) for secret in (SECRET, postgres.password))
    assert refused.value.__suppress_context__, "a driver's error may hold what it was given"


def test_who_may_not_make_tables_is_told_what_an_administrator_may_do(postgres: PostgresServer, database: str) -> None:
    name = database.rpartition("/")[2]
    postgres.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{SECRET}'")
    weak = damaged(database, user=name, password=SECRET)
    with pytest.raises(StudyError, match=f'GRANT USAGE, CREATE ON SCHEMA public TO "{name}"'):
        begin_study(weak, "job")
    begin_study(parse_study(database), "other")
    with pytest.raises(StudyError, match=f'GRANT SELECT, INSERT, .* TO "{name}"'):
        begin_study(weak, "job")


def test_another_optunas_tables_are_left_alone_and_the_way_out_is_said(postgres: PostgresServer, database: str) -> None:
    begin_study(parse_study(database), "job")
    postgres.execute("UPDATE alembic_version SET version_num = 'v3.0.0.a'", database=database.rpartition("/")[2])
    with pytest.raises(StudyError, match="another Optuna's; `optuna storage upgrade"):
        begin_study(parse_study(database), "other")


def test_a_missing_driver_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r'pip install "autoopt\[postgres\]"'):
        begin_study(parse_study("postgresql://u:p@h/db"), "job")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("no database" * 100), "file is not a database"),
        (lambda path: path.mkdir(), "unable to open database file"),
    ],
)
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "study.db"
    make(path)
    before = path.stat()
    with pytest.raises(StudyError, match=message):
        begin_study(parse_study(f"sqlite:///{path}"), "job")
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_patience_that_is_no_number_is_refused(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, "5m")
    with pytest.raises(UserError, match="a number of seconds"):
        begin_study(parse_study(database), "job")


# ---- Several jobs in a database


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_jobs_share_a_database_and_each_name_is_taken_once(
    space: Space, database: str, tmp_path: Path, kind: str
) -> None:
    place = kinds_of_place(database, tmp_path)[kind]
    assert place is not None
    for job in ("one", "two"):
        begin_study(place, job)
        study = CandidateStudy(opened(place), space, name=study_name(place, job), sampler="random")
        asked = study.ask()
        assert asked is not None
        study.tell(asked.number, SLOW)
    with pytest.raises(JobError, match=r"has a study of a job 'one' already: .*--name.*optuna delete-study"):
        begin_study(place, "one")
    for job in ("one", "two"):
        assert len(read_ended(place, tmp_path, study_name(place, job))) == 1
    assert read_ended(place, tmp_path, study_name(place, "three")) == []


def test_the_name_of_a_job_that_never_began_is_free_again(space: Space, database: str) -> None:
    place = parse_study(database)
    begin_study(place, "job")
    assert discard_study(place, "job")
    begin_study(place, "job")
    CandidateStudy(opened(place), space, name=study_name(place, "job"), sampler="random").ask()
    assert not discard_study(place, "job"), "there is something in it"


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_jobs_that_make_the_tables_at_the_same_time_do_not_disturb_each_other(
    database: str, tmp_path: Path, kind: str
) -> None:
    place = kinds_of_place(database, tmp_path)[kind]
    assert place is not None
    with ThreadPoolExecutor(4) as jobs:
        list(jobs.map(lambda number: begin_study(place, f"job{number}"), range(4)))
    assert len(opened(place).get_all_studies()) == 4


def test_who_only_reads_makes_nothing(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    assert read_ended(parse_study(database), tmp_path, "autoopt/job") == []
    name = database.rpartition("/")[2]
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert postgres.execute(tables, database=name) == [(0,)]
    missing = tmp_path / "study.db"
    assert read_ended(parse_study(f"sqlite:///{missing}"), tmp_path, "autoopt/job") == []
    assert not missing.exists()


def test_two_writers_of_one_study_are_noticed(space: Space, database: str) -> None:
    place = parse_study(database)
    first, second = (CandidateStudy(opened(place), space, sampler="random", seed=seed) for seed in range(2))
    first.ask()
    with pytest.raises(JobError, match="another process writes into the study"):
        second.ask()


# ---- Outages


def test_a_trial_that_is_made_by_a_call_without_an_answer_is_made_once(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every COMMIT succeeds, and some answers are lost: what Optuna's own repetition doubles."""
    storage = opened(database)
    assert isinstance(storage, PatientStorage)
    study = storage.create_new_study(DIRECTIONS, "study")
    lost = losing(monkeypatch)
    trials = [storage.create_new_trial(study, create_trial(state=TrialState.WAITING)) for _ in range(6)]
    for trial in trials:
        assert storage.set_trial_state_values(trial, TrialState.RUNNING)
        storage.set_trial_user_attr(trial, "outcome", {"number": trial})
        assert storage.set_trial_state_values(trial, TrialState.COMPLETE, [1.0, 2.0])
    assert lost["commits"] > 5, "the test is about something"
    monkeypatch.undo()
    found = opened(database).get_all_trials(study)
    assert [trial._trial_id for trial in found] == trials
    assert [trial.number for trial in found] == list(range(6))
    assert all(trial.state is TrialState.COMPLETE and trial.values == [1.0, 2.0] for trial in found)


def losing(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """From now on the connection breaks after some COMMITs, before their answer."""
    commit, lost, chance = psycopg.Connection.commit, Counter[str](), random.Random(0)

    def commit_and_break(connection: psycopg.Connection[object]) -> None:
        commit(connection)
        if chance.random() < 0.4:
            lost["commits"] += 1
            connection.close()
            message = "server closed the connection unexpectedly"
            raise psycopg.OperationalError(message)

    monkeypatch.setattr(psycopg.Connection, "commit", commit_and_break)
    monkeypatch.setattr(patience_module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # Optuna's pause is up to two seconds
    return lost


def test_optuna_alone_would_double_it(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why there is a nonce. When this fails, Optuna has learnt to repeat safely and `OnceStorage` may go."""
    storage = optuna.storages.RDBStorage(database)
    study = storage.create_new_study(DIRECTIONS, "study")
    losing(monkeypatch)
    for _ in range(6):
        storage.create_new_trial(study)
    monkeypatch.undo()
    storage.engine.dispose()
    assert opened(database).get_n_trials(study) > 6


def test_a_trial_that_was_begun_is_not_begun_by_another(database: str) -> None:
    storage = opened(database)
    study = storage.create_new_study(DIRECTIONS, "study")
    trial = storage.create_new_trial(study, create_trial(state=TrialState.WAITING))
    assert storage.set_trial_state_values(trial, TrialState.RUNNING)
    assert not storage.set_trial_state_values(trial, TrialState.RUNNING), "no answer was lost: somebody else has it"


def work(study: CandidateStudy, count: int, outcome: Eliminated = SLOW) -> list[Candidate]:
    """Ask and tell, two in flight."""
    flight = []
    told = []
    while len(told) < count:
        asked = study.ask()
        assert asked is not None
        flight.append(asked)
        if len(flight) > 1:
            done = flight.pop(0)
            study.tell(done.number, outcome)
            told.append(done.candidate)
    return told


def check_nothing_lost_or_doubled(place: StudyUrl, space: Space, name: str, told: list[Candidate]) -> None:
    trials = opened(place).get_all_trials(opened(place).get_study_id_from_name(name))
    assert [trial.number for trial in trials] == list(range(len(trials)))
    again = CandidateStudy(opened(place), space, name=name, sampler="random")
    decided = [decided.candidate.id for decided in again.outcomes()]
    assert decided == [candidate.id for candidate in told]
    live = [trial for trial in trials if trial.state in {TrialState.RUNNING, TrialState.WAITING}]
    identifiers = [trial.user_attrs["candidate_id"] for trial in live]
    assert len(set(identifiers)) == len(identifiers)
    assert not set(identifiers) & set(decided)


def test_connections_cut_at_random_moments_lose_and_double_nothing(
    space: Space, postgres: PostgresServer, database: str
) -> None:
    place = parse_study(database)
    study = CandidateStudy(opened(place), space, sampler="random")
    ended, cuts = threading.Event(), Counter[str]()

    def cut() -> None:
        chance = random.Random(0)
        while not ended.wait(chance.uniform(0.05, 0.4)):
            cuts["cut"] += postgres.cut(database.rpartition("/")[2])

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        told = work(study, 30)
        while cuts["cut"] <= 5:  # a fast machine is done before it has been cut often
            told += work(study, 5)
    finally:
        ended.set()
        thread.join()
    check_nothing_lost_or_doubled(place, space, "autoopt", told)


def test_a_server_that_crashes_and_restarts_at_random_moments_loses_and_doubles_nothing(
    space: Space, postgres: PostgresServer, database: str
) -> None:
    place = parse_study(database)
    study = CandidateStudy(opened(place), space, sampler="random")
    ended, crashes = threading.Event(), Counter[str]()

    def crash() -> None:
        chance = random.Random(1)
        while not ended.wait(chance.uniform(0.2, 1.0)) or not crashes:
            postgres.restart(chance.choice(["immediate", "fast"]))
            crashes["all"] += 1

    thread = threading.Thread(target=crash)
    thread.start()
    try:
        told = work(study, 30)
    finally:
        ended.set()
        thread.join()
    assert crashes["all"] >= 1
    check_nothing_lost_or_doubled(place, space, "autoopt", told)


def test_a_search_waits_for_a_server_that_is_away_and_says_so(
    space: Space, postgres: PostgresServer, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    study = CandidateStudy(opened(database), space, sampler="random")
    told = work(study, 2)
    postgres.stop()
    back = threading.Timer(3.0, postgres.start)
    back.start()
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        told += work(study, 2)
    back.join()
    assert 2.5 < time.monotonic() - began < 20
    said = [record.getMessage() for record in caplog.records]
    assert "does not answer" in said[0]
    assert "answers again" in said[-1]
    assert len(said) == 2, "once, and not at every attempt"
    assert postgres.password not in " ".join(said)
    check_nothing_lost_or_doubled(parse_study(database), space, "autoopt", told)


def test_a_study_is_opened_as_soon_as_the_server_is_back(space: Space, postgres: PostgresServer, database: str) -> None:
    postgres.stop()
    back = threading.Timer(1.0, postgres.start)
    back.start()
    assert CandidateStudy(opened(database), space, sampler="random").ask() is not None
    back.join()


def test_when_patience_is_at_its_end_the_job_stops_in_words_and_resumes_where_it_was(
    space: Space, postgres: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE, "1.5")
    study = CandidateStudy(opened(database), space, sampler="random")
    told = work(study, 2)
    postgres.stop()
    began = time.monotonic()
    with pytest.raises(StudyError, match=r"has not answered for [23] s .*`autoopt resume` goes on"):
        study.ask()
    assert time.monotonic() - began < 5
    began = time.monotonic()
    with pytest.raises(StudyError, match="has not answered"):
        study.tell(2, SLOW)
    assert time.monotonic() - began < 1, "nobody waits a second time"
    postgres.start()
    again = CandidateStudy(opened(database), space, sampler="random")
    assert again.reconcile() == 1
    assert [decided.candidate for decided in again.outcomes()] == told


def test_a_job_that_is_stopped_does_not_wait(space: Space, postgres: PostgresServer, database: str) -> None:
    stop = threading.Event()
    study = CandidateStudy(opened(database, must_stop=stop.is_set), space, sampler="random")
    postgres.stop()
    threading.Timer(0.5, stop.set).start()
    began = time.monotonic()
    with pytest.raises(StudyError):
        study.ask()
    assert time.monotonic() - began < 5


def test_a_refusal_is_not_waited_out(space: Space, postgres: PostgresServer, database: str) -> None:
    name = database.rpartition("/")[2]
    postgres.execute(f"CREATE ROLE \"{name}\" LOGIN SUPERUSER PASSWORD '{SECRET}'")
    study = CandidateStudy(opened(damaged(database, user=name, password=SECRET)), space, sampler="random")
    postgres.execute(f"ALTER ROLE \"{name}\" PASSWORD 'changed'")
    postgres.cut(name)
    began = time.monotonic()
    with pytest.raises(StudyError, match="password authentication failed"):
        study.ask()
    assert time.monotonic() - began < 5


def test_a_study_that_fails_ends_the_search_and_the_cause_is_kept(
    space: Space, reference: Candidate, postgres: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE, "0.5")
    study = CandidateStudy(opened(database), space, sampler="random")
    study.enqueue([Proposal(reference, "reference")])
    conductor = Conductor(study, reference, BudgetClock(Budget(600.0, None)), lambda _: None)
    asked = conductor.next()
    assert asked is not None
    postgres.stop()
    conductor.tell(asked[0], SLOW)
    assert conductor.finished
    conductor.close()
    with pytest.raises(StudyError, match="resume"):
        conductor.check()


def test_who_goes_on_is_told_of_a_refusal_and_waits_for_an_outage(postgres: PostgresServer, database: str) -> None:
    check_study(parse_study(database))
    check_study(damaged(database, port=1))
    with pytest.raises(StudyError, match="no password supplied"):
        check_study(parse_study(database).without_password)


def test_libpqs_own_means_give_the_password(
    space: Space, postgres: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare = parse_study(database).without_password
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    CandidateStudy(opened(bare), space)
    monkeypatch.delenv("PGPASSWORD")
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"127.0.0.1:{postgres.port}:*:{postgres.user}:{postgres.password}\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    CandidateStudy(opened(bare), space)
