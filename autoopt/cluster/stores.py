"""Whether a store and a study can be used from this machine: tried, for rights cannot be asked for."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from autoopt.errors import AutooptError

if TYPE_CHECKING:
    from autoopt.search.study_url import StudyUrl

CONNECT_S = 10


@dataclass(frozen=True)
class Answer:
    """How it went."""

    error: str | None
    """Why it cannot be used, with what to do; None where it can."""
    took_s: float
    missing: str = ""
    """What is not installed here, so that it could not be tried."""
    clock_s: float | None = None
    """How far a database's clock is ahead of this machine's, in seconds; None where it has none of its own."""


def try_store(where: str, mark: str | None = None) -> Answer:
    """Write, read and remove a small file in a store.

    Args:
        where: a path or a URL.
        mark: a file that somebody else has left there, who is to see the same store.
    """
    from autoopt.workers.store import check_store, masked, open_store

    def attempt() -> None:
        check_store(where)
        if mark is not None and open_store(where).files.read(mark) is None:
            message = f"the store {masked(where)} is another one here than on the head; give a folder that all nodes share, or a URL"
            raise AutooptError(message)

    return _answer(attempt)


def leave_mark(where: str) -> str:
    """Leave a small file in a store that works; its name."""
    from autoopt.workers.store import open_store

    mark = f"check-{uuid.uuid4().hex}"
    open_store(where).files.write(mark, b"left by autoopt doctor; may be removed")
    return mark


def remove_mark(where: str, mark: str) -> None:
    """Remove it."""
    from autoopt.workers.store import open_store

    open_store(where).files.remove(mark)


def try_study(where: str) -> Answer:
    """Make a study in a database and remove it, as a job does first; then ask for the server's clock."""
    clocks: list[float] = []

    def attempt() -> None:
        from autoopt.search.storage import begin_study, discard_study
        from autoopt.search.study_url import POSTGRES, parse_study

        study, job = parse_study(where), f"doctor-{uuid.uuid4().hex}"
        begin_study(study, job)
        discard_study(study, job)
        if study.scheme == POSTGRES:
            clocks.append(_clock(study))

    answer = _answer(attempt)
    return replace(answer, clock_s=clocks[0] if clocks else None)


def _answer(attempt: Callable[[], None]) -> Answer:
    begun = time.monotonic()
    error, missing = None, ""
    try:
        attempt()
    except AutooptError as refusal:
        error = str(refusal)
    except ModuleNotFoundError as absent:  # a light client's
        missing = absent.name or str(absent)
    return Answer(error, time.monotonic() - begun, missing)


def _clock(study: StudyUrl) -> float:
    from sqlalchemy import create_engine, text

    engine = create_engine(study.full, connect_args={"connect_timeout": CONNECT_S})
    try:
        with engine.connect() as connection:
            sent = time.time()
            theirs = float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
            return theirs - (sent + time.time()) / 2
    finally:
        engine.dispose()
