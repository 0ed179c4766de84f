"""A connection to the study's database, and what its errors mean.

Drivers say what went wrong in their own words and classes; here each becomes one sentence with what to do, and one question
is answered: may the same thing succeed in a while? SQL, parameters and passwords are in none of these sentences.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import TrialModel, TrialSystemAttributeModel, TrialUserAttributeModel
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine, ExceptionContext, create_engine, event, inspect, select
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from autoopt.errors import StudyError, UserError
from autoopt.search.study_url import POSTGRES, VARIABLE, StudyUrl

CONNECT_TIMEOUT_S = 10
NONCE = "autoopt:nonce"
"""The system attribute by which a trial is known that was made by a call whose answer was lost."""
# A server that is gone without a word is noticed by both sides after half a minute; what it held is free again then.
_IDLE_S, _INTERVAL_S, _PROBES, _SILENCE_MS = 10, 5, 3, 20_000
_SESSION = (
    f"SET tcp_keepalives_idle = {_IDLE_S}; SET tcp_keepalives_interval = {_INTERVAL_S}; "
    f"SET tcp_keepalives_count = {_PROBES}; SET tcp_user_timeout = {_SILENCE_MS}; "
    "SET idle_in_transaction_session_timeout = '60s'; SET lock_timeout = '30s'"
)
_KEPT_ALIVE = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives": 1,
    "keepalives_idle": _IDLE_S,
    "keepalives_interval": _INTERVAL_S,
    "keepalives_count": _PROBES,
    "tcp_user_timeout": _SILENCE_MS,
}
# SQLSTATEs of what passes: lost connections, a server that is full or going down, locks, a standby that was asked to write.
_PASSING = ("08", "53", "57P", "57014", "55P03", "40", "25006", "25P03", "58")
_SQLITE_PASSING = ("locked", "busy", "disk is full")
_MAKING_AGAIN = 8


class DriverError(Exception):
    """In place of SQLAlchemy's, once a storage is open: Optuna repeats what those end by itself, in its own time."""

    def __init__(self, *, connections: bool) -> None:
        super().__init__("the database's driver has raised an error")
        self.connections = connections
        """Whether the connection is to blame."""


@dataclass(frozen=True)
class Trouble:
    """What an error of the database means."""

    said: str
    """The driver's or server's own words, one line."""
    remedy: str
    passing: bool
    """Whether the same call may succeed in a while."""


class OnceStorage(RDBStorage):
    """Optuna's storage, in which a trial with a nonce is made once, however often making it is tried.

    A connection that breaks while COMMIT is on its way leaves open whether it took place; trying again would make a second
    trial, as Optuna's own repetition does. Here the second try looks first; it holds the lock on the study's row then, which
    the first one's transaction held to its end, so that nothing can come after the look.
    """

    def __init__(self, url: str, engine_kwargs: dict[str, Any], *, skip_table_creation: bool) -> None:
        self._tried: set[str] = set()
        try:
            super().__init__(url, engine_kwargs, skip_table_creation=skip_table_creation)
        except BaseException:
            if isinstance(made := self.__dict__.get("engine"), Engine):
                made.dispose()  # it may have connected before it was refused
            raise

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Any) -> Any:
        nonce = None if template_trial is None else template_trial.system_attrs.get(NONCE)
        if nonce is not None:
            made = _made_before(session, study_id, nonce) if nonce in self._tried else None
            self._tried.add(nonce)
            if made is not None:
                return made
        return super()._get_prepared_new_trial(study_id, template_trial, session)

    def forget(self, nonce: str) -> None:
        """It was made and said to be: nobody will try again."""
        self._tried.discard(nonce)

    def read_trials(self, study_id: int, states: Collection[TrialState] | None) -> list[FrozenTrial]:
        """The study's trials in the order of their numbers, with their users' attributes and nothing else.

        Optuna's own reading makes an object of every row, twenty for a trial: of ten thousand trials 650 MB, and three times the seconds.
        """
        trial, attribute = TrialModel, TrialUserAttributeModel
        wanted = select(trial.trial_id, trial.number, trial.state, attribute.key, attribute.value_json)
        wanted = wanted.outerjoin(attribute, attribute.trial_id == trial.trial_id).where(trial.study_id == study_id)
        if states is not None:
            wanted = wanted.where(trial.state.in_(states))
        found: dict[int, FrozenTrial] = {}
        with self.engine.connect() as connection:
            for trial_id, number, state, key, value in connection.execute(wanted.order_by(trial.trial_id)):
                if trial_id not in found:
                    found[trial_id] = _bare(trial_id, number, state)
                if key is not None:
                    found[trial_id].user_attrs[key] = json.loads(value)
        return list(found.values())


def _bare(trial_id: int, number: int, state: TrialState) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=state,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=trial_id,
    )


def _made_before(session: Any, study_id: int, nonce: str) -> Any:
    made = session.query(TrialModel).join(
        TrialSystemAttributeModel, TrialSystemAttributeModel.trial_id == TrialModel.trial_id
    )
    made = made.filter(TrialModel.study_id == study_id, TrialSystemAttributeModel.key == NONCE)
    return made.filter(TrialSystemAttributeModel.value_json == json.dumps(nonce)).one_or_none()


def connect(url: StudyUrl, *, writable: bool = True) -> OnceStorage | None:
    """Optuna's storage there, with its tables made where there are none; None where there are none and it is only read.

    Raises:
        UserError: the driver is not installed.
        Exception: whatever the driver raises; `trouble` says what it means.
    """
    if url.scheme == POSTGRES and find_spec("psycopg") is None:
        message = f'the study {url} needs PostgreSQL\'s driver, which is not installed; pip install "autoopt[postgres]"'
        raise UserError(message)
    if url.scheme != POSTGRES:
        if not writable and not Path(url.database).exists():
            return None  # opening it would make it
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    settings = _settings(url)
    if not writable and not _has_tables(url, settings):
        return None
    for attempt in range(_MAKING_AGAIN):
        try:
            return _opened(url, settings, writable=writable)
        except (SQLAlchemyError, StorageInternalError) as error:
            # Two jobs that make the tables at the same time: the slower one finds them half made.
            if not (writable and _is_made_by_others(error)) or attempt + 1 == _MAKING_AGAIN:
                raise
            time.sleep(random.uniform(0.1, 0.5))  # noqa: S311 (keeps two apart, and no secret)
    raise AssertionError


def _opened(url: StudyUrl, settings: dict[str, Any], *, writable: bool) -> OnceStorage:
    # Optuna formats the URL as a template.
    template = url.full.replace("{", "{{").replace("}", "}}")
    storage = OnceStorage(template, settings, skip_table_creation=not writable)
    event.listen(storage.engine, "handle_error", _translate)
    if url.scheme == POSTGRES:
        event.listen(storage.engine, "connect", _set_up)
        storage.engine.dispose()  # the first connection was made before
    return storage


def _translate(context: ExceptionContext) -> None:
    error = context.sqlalchemy_exception
    # Optuna knows what to do where something is there already.
    if error is not None and not isinstance(error, IntegrityError):
        raise DriverError(connections=context.is_disconnect or isinstance(error, OperationalError | InterfaceError))


def _set_up(connection: Any, _: object) -> None:
    """A transaction of ours that was cut off must not hold its locks for hours."""
    connection.execute(_SESSION)
    connection.commit()


def _settings(url: StudyUrl) -> dict[str, Any]:
    """SQLAlchemy's; errors must not hold what was told of a candidate."""
    if url.scheme != POSTGRES:
        return {"hide_parameters": True}
    chosen = {name for name, _ in url.options}
    arguments = {name: value for name, value in _KEPT_ALIVE.items() if name not in chosen}
    return {
        "hide_parameters": True,
        "pool_pre_ping": True,
        "pool_size": 2,
        "max_overflow": 3,
        "connect_args": {"application_name": "autoopt", **arguments},
    }


def _has_tables(url: StudyUrl, settings: dict[str, Any]) -> bool:
    engine = create_engine(url.full, **settings)
    try:
        return bool(inspect(engine).has_table("studies")) and bool(inspect(engine).has_table("alembic_version"))
    finally:
        engine.dispose()


def _is_made_by_others(error: BaseException) -> bool:
    words = str(_driver_error(error)).lower()
    return "already exists" in words or "duplicate key" in words or "unique constraint failed" in words


def is_databases(error: BaseException) -> bool:
    """Whether the database raised it, and not Optuna about what it was asked."""
    return isinstance(error, DriverError | StorageInternalError | SQLAlchemyError)


def trouble(error: BaseException, url: StudyUrl) -> Trouble:
    """What an error means, and what to do."""
    original = _driver_error(error)
    said = _one_line(str(original))
    state = getattr(original, "sqlstate", None)
    if url.scheme != POSTGRES:
        passing = any(word in said for word in _SQLITE_PASSING)
        remedy = "another process holds it, or the disk is full" if passing else "give another file (--study)"
        return Trouble(said, remedy, passing)
    for words, remedy in _REMEDIES:
        if re.search(words, said):
            return Trouble(said, remedy.format(**_names(url)), passing=False)
    if state is None:
        passing = isinstance(error, PoolTimeoutError) or _is_connections(error)
    else:
        passing = state.startswith(_PASSING)
    return Trouble(said, "see whether it runs there, and whether a firewall lets this machine through", passing)


def _is_connections(error: BaseException) -> bool:
    """Whether the connection is to blame: a driver says nothing of SQLSTATEs then."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, DriverError):
            return found.connections
        if isinstance(found, OperationalError | InterfaceError):
            return True
        found = found.__cause__
    return False


_HOW_TO_GIVE = f"in --study, ${VARIABLE}, $PGPASSWORD or ~/.pgpass"
_USE_TABLES = (
    'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "{user}"; '
    'GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "{user}"'
)
_REMEDIES = (
    ("password authentication failed", f'correct the user "{{user}}" or the password ({_HOW_TO_GIVE})'),
    ("no password supplied", f"a job's files hold no password: give it {_HOW_TO_GIVE}"),
    ("no pg_hba.conf entry", "let an administrator add a line to pg_hba.conf for this user, database and host"),
    ("permission denied for (table|sequence)", f"let an administrator say: {_USE_TABLES}"),
    ("permission denied", 'let an administrator say: GRANT USAGE, CREATE ON SCHEMA public TO "{user}"'),
    ('role ".*" does not exist', 'make the user "{user}" there, or give another one'),
    ('database ".*" does not exist', 'make it: createdb --host {host} --port {port} --username {user} "{database}"'),
)


def _names(url: StudyUrl) -> dict[str, Any]:
    return {
        "user": url.user or "(libpq's default)",
        "host": url.host or "localhost",
        "port": url.port or 5432,
        "database": url.database,
    }


def _driver_error(error: BaseException) -> BaseException:
    """The innermost: SQLAlchemy's wraps it with the statement, Optuna's with a guess."""
    found: BaseException = error
    while True:
        inner = getattr(found, "orig", None) or found.__cause__
        if not isinstance(inner, BaseException) or inner is found:
            return found
        found = inner


def _one_line(said: str) -> str:
    """``connection failed: connection to server at "h", port 5432 failed: FATAL:  …``: what comes last, first line."""
    first = said.strip().splitlines()[0] if said.strip() else "no reason given"
    return first.rpartition(" failed: ")[2].removeprefix("FATAL:").removeprefix("ERROR:").strip()


def refused(error: BaseException, url: StudyUrl) -> StudyError:
    """The error in our words."""
    found = trouble(error, url)
    message = f"the study's database {url} cannot be used: {found.said}; {found.remedy}"
    return StudyError(message)
