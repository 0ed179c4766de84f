"""Whether a store and a study can be used from this machine: tried, for rights cannot be asked for."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CONNECT_S = 10


@dataclass(frozen=True)
class Answer:
    """How it went."""

    error: str | None
    """Why it cannot be used, with what to do; None where it can."""
    took_s: float
    clock_s: float | None = None
    """How far a database's clock is ahead of this machine's, in seconds; None where it has none of its own."""


def shown(where: str) -> str:
    """The address as it may be shown."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(where).render_as_string(hide_password=True) if "://" in where else where
    except (ArgumentError, ValueError):
        return f"{where.partition('://')[0]}://***"


def try_store(where: str) -> Answer:
    """Write, read and remove a small file in a store."""
    begun = time.monotonic()
    error = None
    try:
        folder = Path(where).expanduser()
        name = folder / f"check-{uuid.uuid4().hex}"
        folder.mkdir(parents=True, exist_ok=True)
        name.write_text("written by autoopt doctor; may be removed")
        name.read_text()
        name.unlink()
    except OSError as failure:
        error = f"the store {shown(where)} cannot be used: {failure.strerror}"
    return Answer(error, time.monotonic() - begun)


def try_study(where: str) -> Answer:
    """Connect to a study's database, make a study there and remove it, and ask for the server's clock."""
    import optuna
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from optuna.study import StudyDirection
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    begun = time.monotonic()
    clock_s = None
    try:
        storage = RDBStorage(where, _settings(where))
        made = storage.create_new_study([StudyDirection.MAXIMIZE], f"autoopt-doctor-{uuid.uuid4().hex}")
        storage.delete_study(made)
        clock_s = _clock(storage.engine)
        storage.engine.dispose()
    except (SQLAlchemyError, StorageInternalError, ImportError, ValueError) as error:
        said = str(getattr(error.__cause__ or error, "orig", None) or error).strip().splitlines()[0]
        return Answer(f"the study {shown(where)} cannot be used: {said}", time.monotonic() - begun)
    return Answer(None, time.monotonic() - begun, clock_s)


def _settings(where: str) -> dict[str, Any]:
    return {"connect_args": {"connect_timeout": _CONNECT_S}} if where.startswith("postgresql") else {}


def _clock(engine: Any) -> float | None:
    from sqlalchemy import text

    if engine.dialect.name != "postgresql":
        return None
    with engine.connect() as connection:
        sent = time.time()
        theirs = float(connection.execute(text("select extract(epoch from clock_timestamp())")).scalar_one())
        return theirs - (sent + time.time()) / 2
