"""The study's storage, wherever it is: a journal in the job's folder, or a database that many jobs share.

One process writes a study, others may read it. What a crash of that process leaves is told in `autoopt.search.journal` and
`autoopt.search.study`, what a crash of the database leaves in `autoopt.search.patience`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autoopt.errors import JobError, StudyError, UserError
from autoopt.search.database import OnceStorage, connect, is_databases, refused, trouble
from autoopt.search.journal import open_journal
from autoopt.search.patience import Patience, PatientStorage
from autoopt.search.study_url import StudyUrl

NAME = "autoopt"
DIRECTIONS = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
"""Of the score and the latency."""
PATIENCE = "AUTOOPT_STUDY_PATIENCE_S"
PATIENCE_S = 300.0


def study_name(study: StudyUrl | None, job: str) -> str:
    """What Optuna calls the study: a journal holds one, a database those of many jobs."""
    return NAME if study is None else f"{NAME}/{job}"


def open_storage(
    study: StudyUrl | None,
    journal: Path,
    *,
    writable: bool = True,
    must_stop: Callable[[], bool] = lambda: False,
) -> BaseStorage:
    """The storage of a job's study, made where there is none.

    Who writes has patience with a database that does not answer: ``$AUTOOPT_STUDY_PATIENCE_S`` seconds, 300 by default. Who only
    reads is told at once, and finds an empty storage where there is none yet.

    Args:
        study: the database; None for the journal.
        journal: the journal's file.
        writable: whether anything is written.
        must_stop: ends the patience.

    Raises:
        UserError: the database's driver is not installed.
        StudyError: the database cannot be used: not reached, or refused.
    """
    if study is None:
        return open_journal(journal, writable=writable)
    patience = Patience(study, patience_s() if writable else 0.0, must_stop)
    found = patience.keep_trying(lambda _: _connected(study, writable=writable))
    return InMemoryStorage() if found is None else PatientStorage(found, patience)


def _connected(study: StudyUrl, *, writable: bool) -> OnceStorage | None:
    try:
        return connect(study, writable=writable)
    except OSError as error:
        message = f"the study's database {study} cannot be used: {error}; give another file (--study)"
        raise StudyError(message) from error
    except RuntimeError as error:
        message = (
            f"the tables in the study's database {study} are another Optuna's; `optuna storage upgrade --storage URL` makes "
            "older ones fit, newer ones need the newer Optuna"
        )
        raise StudyError(message) from error


def patience_s() -> float:
    """How long one who writes waits for a database that does not answer.

    Raises:
        UserError: the variable is no number of seconds.
    """
    given = os.environ.get(PATIENCE, str(PATIENCE_S))
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        message = f"${PATIENCE} is {given!r}; give a number of seconds from 0, such as 300"
        raise UserError(message)
    return seconds


def begin_study(study: StudyUrl | None, job: str) -> None:
    """Before a job begins: make its study, so that nobody else takes the name, and it is seen that it can be written.

    Raises:
        UserError: the driver is not installed.
        StudyError: the database cannot be used.
        JobError: another job of that name keeps its study there.
    """
    if study is None:
        return
    patience_s()
    name = study_name(study, job)
    with _at_once(study) as storage:
        try:
            storage.create_new_study(DIRECTIONS, name)
        except DuplicatedStudyError:
            message = (
                f"{study} has a study of a job {job!r} already: resume that one, or give this one another name (--name). "
                f"If that job is no more: optuna delete-study --study-name {name} --storage URL"
            )
            raise JobError(message) from None


def discard_study(study: StudyUrl, job: str) -> bool:
    """Free the name of a job that never began: delete its study, unless there is something in it. Whether it is gone.

    Raises:
        StudyError: the database cannot be used.
    """
    with _at_once(study) as storage:
        try:
            found = storage.get_study_id_from_name(study_name(study, job))
        except KeyError:
            return True
        if storage.get_n_trials(found):
            return False
        storage.delete_study(found)
        return True


def check_study(study: StudyUrl) -> None:
    """Before a job goes on: the database does not refuse. One that does not answer will be waited for.

    Raises:
        UserError: the driver is not installed.
        StudyError: the database refuses: the password is wrong or not known here, say.
    """
    try:
        storage = _connected(study, writable=False)
    except Exception as error:
        if not is_databases(error):
            raise
        if not trouble(error, study).passing:
            raise refused(error, study) from None
    else:
        if storage is not None:
            storage.engine.dispose()


def read_trials(storage: BaseStorage, study_id: int, states: Collection[TrialState] | None = None) -> list[FrozenTrial]:
    """A study's trials, in the order of their numbers: state and users' attributes; the rest may be left out."""
    if isinstance(storage, PatientStorage):
        return storage.read_trials(study_id, states)
    return storage.get_all_trials(study_id, deepcopy=False, states=states)


def read_ended(study: StudyUrl | None, journal: Path, name: str) -> list[FrozenTrial]:
    """The trials of the study that have ended; none where there is no study yet. Changes nothing.

    Raises:
        ValueError: the journal is damaged.
        UserError, StudyError: the database cannot be used.
    """
    if study is None and not journal.exists():
        return []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(study, journal, writable=False)
    try:
        found = storage.get_study_id_from_name(name)
    except KeyError:
        return []
    else:
        return read_trials(storage, found, (TrialState.COMPLETE, TrialState.PRUNED))
    finally:
        if isinstance(storage, PatientStorage):
            storage.close()


@contextmanager
def _at_once(study: StudyUrl) -> Iterator[OnceStorage]:
    """The storage, by somebody who does not wait; its errors in our words."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = _connected(study, writable=True)
        assert storage is not None, "made where there was none"
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()
    except Exception as error:
        if not is_databases(error):
            raise
        raise refused(error, study) from None
